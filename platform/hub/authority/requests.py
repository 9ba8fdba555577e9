"""Certificate signing requests (PKCS #10, RFC 2986): of what a device sends only its public key is taken.

Names, extensions and challenge passwords in a request are passed over: who the certificate is for is said by whoever
sends it, who must be allowed to. The request's signature proves that the sender has the private key.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from hub.errors import Invalid

MAX_REQUEST = 8192  # bytes of PEM; one for P-256 has some 400


def public_key_of(request: str) -> ec.EllipticCurvePublicKey:
    """The key that a request in PEM form asks a certificate for. Raises Invalid and nothing else."""
    if len(request) > MAX_REQUEST:
        raise Invalid(f"a certificate request has at most {MAX_REQUEST} characters")
    try:
        parsed = x509.load_pem_x509_csr(request.encode("utf-8", "replace"))
        key = parsed.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise Invalid(
            "this is no certificate request in PEM form: make one with "
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout thing.key -subj /CN=thing"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Invalid("the key of a request is on the curve P-256 (prime256v1, secp256r1)")
    try:
        valid = parsed.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        valid = False
    if not valid:
        raise Invalid("the request is not signed with the key it asks a certificate for")
    return key
