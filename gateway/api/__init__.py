"""The HTTPS server: assembly of the application, its certificates and token, status, metrics and `explain`."""
