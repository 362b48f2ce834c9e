"""Dates of a pregnancy, reckoned from the first day of the last menstrual period."""

from datetime import date, timedelta


def due_date(last_period: date, cycle_days: int) -> date:
    """Estimated due date: 280 days, and as many more as the cycle is longer than 28 days (Naegele's rule; ACOG
    Committee Opinion 700, 2017). A shorter cycle brings the date forward."""
    return last_period + timedelta(days=280 + cycle_days - 28)


def conception_date(last_period: date, cycle_days: int) -> date:
    """Estimated date of conception: ovulation 14 days before the next period (Wilcox et al., BMJ 2000;321:1259)."""
    return last_period + timedelta(days=cycle_days - 14)


def gestational_age(last_period: date, today: date) -> tuple[int, int]:
    """Completed weeks and days since the last menstrual period began (ACOG Committee Opinion 700, 2017).

    Raises ValueError when `today` comes first.
    """
    if today < last_period:
        raise ValueError("the last menstrual period lies after the day of the visit")
    days = (today - last_period).days
    return days // 7, days % 7
