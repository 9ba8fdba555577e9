"""The gateway's own certificate authority: certificates for things, and the gateway's own for its TLS doors.

In come wishes of technicians and things (make, renew, revoke), out go X.509 certificates (RFC 5280) and, for every
connection over TLS, whom the certificate that was shown stands for, or why it is refused. It opens no port and
decides no rights: a certificate says who somebody is, `hub.access` what he may.
"""
