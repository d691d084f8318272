"""What people see: signing in, allowing an app, their account, their apps, who looked at their records."""

from server.edges.pages.routes import install as install
