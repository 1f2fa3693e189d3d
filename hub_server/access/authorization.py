"""The one question every operation asks before it does anything."""

from hub_server.access.model import Permission, Principal, permits
from hub_server.errors import Forbidden


def authorize(principal: Principal, permission: Permission) -> str:
    """Return the organisation in which `principal` may use `permission`.

    Raises Forbidden otherwise.
    """
    if principal.is_limited and permission is not Permission.SELF:
        raise Forbidden(
            "your role needs a second factor here: set up an authenticator app (account:begin-totp), "
            "then refresh your sign-in"
        )
    if not permits(principal, permission):
        raise Forbidden(
            f"your role ({principal.role}) does not allow this ({permission}); "
            "ask an administrator of your organisation"
        )
    return principal.organisation_id
