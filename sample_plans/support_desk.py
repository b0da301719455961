"""What the agents of support_desk.yaml can look up."""

INVOICES = [
    {"number": 288, "customer": "Ada", "month": 2, "amount": 19.90, "order": "tea"},
    {"number": 311, "customer": "Ada", "month": 3, "amount": 42.50, "order": "lamp"},
    {"number": 312, "customer": "Ada", "month": 3, "amount": 42.50, "order": "lamp"},
]


def invoices_of(customer: str, month: int) -> list[dict]:
    """Return the invoices of one customer in one month.

    Args:
        customer: The customer's name.
        month: 1 to 12.
    """
    return [invoice for invoice in INVOICES if (invoice["customer"], invoice["month"]) == (customer, month)]
