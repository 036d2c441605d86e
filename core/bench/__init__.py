"""`assay bench`: the method and published defences under the same conditions. Nothing else imports this."""
