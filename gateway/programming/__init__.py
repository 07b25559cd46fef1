"""Policy made into tables, and tables into the datapath's memory."""
