"""Mail headers: fields, RFC 822 tokens, address lists.  No module here does any I/O."""
