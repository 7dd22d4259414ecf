"""Every provider's row. A new provider is one file, named here."""

from case_mailgun import MAILGUN
from case_sendgrid import SENDGRID

CASES = {case.kind: case for case in (SENDGRID, MAILGUN)}
