"""What `agent_server.py` is made of beside the server: its tools, its model, its proof."""
