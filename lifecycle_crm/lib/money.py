"""Money is an integer of minor units with a currency beside it; floats never touch it."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from babel.numbers import get_currency_precision, list_currencies

from lifecycle_crm.lib.errors import InvalidInput

CURRENCIES: frozenset[str] = frozenset(list_currencies())


def check_currency(code: str) -> str:
    """The ISO 4217 code in capitals. Raises ``InvalidInput`` for one nobody knows."""
    upper = (code or "").strip().upper()
    if upper not in CURRENCIES:
        raise InvalidInput(
            f"Unknown currency {code!r}. Use an ISO 4217 code such as SEK, NOK, PLN, CZK, EUR or USD.",
            code="unknown_currency",
            currency=code,
        )
    return upper


def digits(currency: str) -> int:
    return get_currency_precision(currency)


def to_minor(amount: str | Decimal | int, currency: str) -> int:
    """``"12.50", "SEK"`` → 1250. Raises ``InvalidInput`` for what is not a number or has too many decimals."""
    try:
        value = Decimal(str(amount).strip())
    except InvalidOperation:
        raise InvalidInput(f"{amount!r} is not an amount. Write it as 1234.50.", code="invalid_amount") from None
    if not value.is_finite():
        raise InvalidInput(f"{amount!r} is not an amount. Write it as 1234.50.", code="invalid_amount")
    scaled = value.scaleb(digits(currency))
    whole = scaled.to_integral_value(rounding=ROUND_HALF_EVEN)
    if whole != scaled:
        raise InvalidInput(f"{amount} has more decimals than {currency} has.", code="invalid_amount")
    if abs(whole) >= 10**15:
        raise InvalidInput(f"{amount} {currency} is larger than an order can be.", code="invalid_amount")
    return int(whole)


def from_minor(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-digits(currency))
