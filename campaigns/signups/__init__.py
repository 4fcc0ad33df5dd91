"""Sign-up forms: strangers ask for our news, and become customers when they say yes from their own mailbox."""
