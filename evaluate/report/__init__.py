"""Tables, figures and the html page. No torch."""
