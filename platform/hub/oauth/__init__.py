"""OAuth 2.0 and OpenID Connect: how applications get tokens, for themselves or for a person who agrees.

In: an application's request, and a person's decision on the consent page. Out: codes, access tokens (signed, good for
10 minutes) and refresh tokens, each hanging on a grant of `hub.tokens`, whose removal ends them all at once. Authlib's
framework-free core drives the protocol; what RFC 9700 demands beyond it is checked in front of it here.
Passwords, pages and what a grant may do are not here: `hub.users`, `webui`, `hub.access`.
"""
