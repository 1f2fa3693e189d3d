"""Operations on one's own account, on people and their roles, and on API keys."""

from __future__ import annotations

from hub_server.access.accounts import AccountService
from hub_server.access.api_keys import ApiKeyService
from hub_server.access.model import Permission
from hub_server.access.users import UserService
from hub_server.gateway.dashboards.operations import Entry, Table


def people_operations(accounts: AccountService, users: UserService, api_keys: ApiKeyService) -> Table:
    return {**_account_operations(accounts), **_user_operations(users), **_api_key_operations(api_keys)}


def _account_operations(accounts: AccountService) -> Table:
    return {
        "account:get": Entry(
            Permission.SELF, lambda caller, _request: accounts.get(caller.principal, caller.session_id)
        ),
        "account:set-password": Entry(
            Permission.SELF,
            lambda caller, request: accounts.set_password(caller.principal, caller.session_id, request),
        ),
        "account:begin-totp": Entry(
            Permission.SELF, lambda caller, request: accounts.begin_totp(caller.principal, request)
        ),
        "account:confirm-totp": Entry(
            Permission.SELF,
            lambda caller, request: accounts.confirm_totp(caller.principal, caller.session_id, request),
        ),
        "account:remove-totp": Entry(
            Permission.SELF, lambda caller, request: accounts.remove_totp(caller.principal, request)
        ),
        "account:new-recovery-codes": Entry(
            Permission.SELF, lambda caller, request: accounts.new_recovery_codes(caller.principal, request)
        ),
        "account:sign-out-everywhere": Entry(
            Permission.SELF, lambda caller, _request: accounts.sign_out_everywhere(caller.principal)
        ),
    }


def _user_operations(users: UserService) -> Table:
    return {
        "users:list": Entry(Permission.USERS_READ, lambda caller, request: users.list(caller.principal, request)),
        "users:create": Entry(Permission.USERS_WRITE, lambda caller, request: users.create(caller.principal, request)),
        "users:set-role": Entry(
            Permission.USERS_WRITE, lambda caller, request: users.set_role(caller.principal, request)
        ),
        "users:set-password": Entry(
            Permission.USERS_WRITE, lambda caller, request: users.set_password(caller.principal, request)
        ),
        "users:remove-totp": Entry(
            Permission.USERS_WRITE, lambda caller, request: users.remove_totp(caller.principal, request)
        ),
        "users:lock": Entry(Permission.USERS_WRITE, lambda caller, request: users.lock(caller.principal, request)),
        "users:unlock": Entry(Permission.USERS_WRITE, lambda caller, request: users.unlock(caller.principal, request)),
        "users:remove": Entry(Permission.USERS_WRITE, lambda caller, request: users.remove(caller.principal, request)),
        "roles:list": Entry(Permission.SELF, lambda caller, request: users.roles(caller.principal, request)),
    }


def _api_key_operations(api_keys: ApiKeyService) -> Table:
    return {
        "api-keys:create": Entry(
            Permission.API_KEYS_WRITE, lambda caller, request: api_keys.create(caller.principal, request)
        ),
        "api-keys:list": Entry(
            Permission.API_KEYS_READ, lambda caller, request: api_keys.list(caller.principal, request)
        ),
        "api-keys:revoke": Entry(
            Permission.API_KEYS_WRITE, lambda caller, request: api_keys.revoke(caller.principal, request)
        ),
    }
