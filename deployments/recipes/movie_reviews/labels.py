"""From a rating to a label: an example of a transform of your own."""

NEAR_ZERO = 0.5
"""People did not agree on snippets whose mean rating is nearer to zero than this."""


def by_rating(row: dict[str, object]) -> dict[str, object] | None:
    """Label a snippet by its rating's sign; None leaves a rating near zero out."""
    rating = float(str(row["rating"]))
    if abs(rating) < NEAR_ZERO:
        return None
    return {**row, "label": "positive" if rating > 0 else "negative"}
