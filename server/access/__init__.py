"""Who may see what: access tokens (`tokens`) and the one Decision that every request is judged by (`decisions`)."""
