"""What people read about the program, and the script that writes the parts made from the code."""
