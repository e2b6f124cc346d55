"""What is wrong with a party's deployed folder, its machine and the way to its peers, all at once and with remedies."""
