"""Rows of the tables as records of lnpay/domain/model.py."""
