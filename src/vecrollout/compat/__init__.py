"""Other libraries' module layouts over our code, legacy names included."""
