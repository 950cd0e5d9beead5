"""The contract `penstock.v1`, generated from `protos/` by `make proto`. Nothing here is written by hand."""
