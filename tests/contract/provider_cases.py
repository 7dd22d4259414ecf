"""Every provider's row. A new provider is one file, named here."""

from case_fcm import FCM
from case_mailgun import MAILGUN
from case_sendgrid import SENDGRID
from case_smtp import SMTP_SERVER
from case_twilio import TWILIO
from case_whatsapp import WHATSAPP

CASES = {case.kind: case for case in (SENDGRID, MAILGUN, SMTP_SERVER, TWILIO, FCM, WHATSAPP)}
