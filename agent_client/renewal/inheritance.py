"""What an earlier version left in the folder, in the form that this one reads.

At first the hub's chain alone was kept in `client.crt`. One atomic write puts in front of it what it says; the earlier
version reads that too, so an update can be taken back. `config.json` stays as it is.
"""

from __future__ import annotations

from agent_client.certificate import is_described
from agent_client.errands.runner import ErrandFailed, Errands, outcome_of
from agent_client.errands.shapes import CertificateChecked, CheckCertificate
from agent_client.logs import Log
from agent_client.paths import CLIENT_CERTIFICATE, CLIENT_KEY, Places
from agent_client.store.secure import SecureStore
from agent_client.trust.keeper import TrustKeeper
from agent_client.turns import Turn

_log = Log("certificates")


class Inheritance:
    def __init__(self, places: Places, trust: TrustKeeper, errands: Errands, turn: Turn) -> None:
        self._certs = SecureStore(places.certs)
        self._trust = trust
        self._errands = errands
        self._turn = turn

    async def take_up(self) -> None:
        """Describe the certificate in use where nobody has yet. One that cannot be stays as it is, and is said.

        Raises StoreError.
        """
        found = self._certs.load(CLIENT_CERTIFICATE)
        if is_described(found):
            return
        errand = CheckCertificate(
            fleet=self._trust.fleet(),
            agent_id=self._turn.agent_id,
            chain_pem=found.decode("ascii", "replace"),
            key_pem=self._certs.load(CLIENT_KEY).decode("ascii", "replace"),
            may_be_over=True,
        )
        try:
            checked = await outcome_of(self._errands, errand, CertificateChecked)
        except ErrandFailed as error:
            _log.error("certificate of an earlier version not usable", reason=str(error))
            return
        with self._turn.taken():
            if self._certs.load(CLIENT_CERTIFICATE) == found:
                self._certs.save(CLIENT_CERTIFICATE, checked.certificate.encode())
        _log.info("certificate of an earlier version taken up")
