"""How the policy learns; each folder or file is one way, and knows no other."""
