"""What generators and discriminators are: modules with the parameter names of the original code."""
