"""Countries as transactions name them: two letters of ISO 3166-1, and what people send instead.

Source: ISO 3166-1 alpha-2, the officially assigned codes, and XK, which payment networks use for
Kosovo.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_CODES: Final = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR
BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ
EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW
GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY
KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV
MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY
QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG
TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA
ZM ZW
"""
COUNTRIES: Final = frozenset(_CODES.split())
ALIASES: Final = {"UK": "GB", "EL": "GR"}
"""Codes that ISO 3166 reserves for a country that has another one."""
UNKNOWN: Final = frozenset(["A1", "A2", "AP", "EU", "O1", "T1", "XX", "ZZ"])
"""What look-ups of IP addresses answer for proxies, satellites, regions, Tor and nothing found."""


def country_code(text: str) -> str | None:
    """Return the country's code, or None for a text that stands for an unknown country.

    >>> country_code("de"), country_code("UK"), country_code("T1")
    ('DE', 'GB', None)

    Raises:
        ValueError: it is not a country.
    """
    code = text.strip().upper()
    code = ALIASES.get(code, code)
    if code in UNKNOWN:
        return None
    if code not in COUNTRIES:
        raise ValueError(f"{text!r} is not a country")
    return code


def known_numbers() -> npt.NDArray[np.bool_]:
    """Return bool[65536]: whether a packed code (`schemas.columns.pack_country`) is a country."""
    known = np.zeros(65_536, np.bool_)
    known[[ord(code[0]) << 8 | ord(code[1]) for code in COUNTRIES]] = True
    return known
