"""Edge: what is answered at the way in from outside itself, reflection and health of everything reached there."""
