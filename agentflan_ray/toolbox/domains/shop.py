"""Tools over a shop's products, orders and warranties, and over parcels on their way."""

from __future__ import annotations

from datetime import date as Date
from typing import Literal

from agentflan_ray.toolbox.tool import Result, ToolFault, tool
from agentflan_ray.toolbox.world import World, spoken_date


def euros(cents: int) -> str:
    """``24.90 EUR``."""
    return f"{cents // 100}.{cents % 100:02d} EUR"


@tool("shop", "Search the shop's products by a word, optionally below a price.")
def search_products(world: World, keyword: str, max_price: float = 1e6) -> Result:
    rows = world.rows(
        "SELECT * FROM products WHERE instr(lower(name) || ' ' || category, ?) AND cents <= ?"
        " ORDER BY cents, id LIMIT 4",
        keyword.strip().lower(),
        round(max_price * 100),
    )
    if not rows:
        raise ToolFault(f"No product matches '{keyword}'.")
    return [f"{row['id']} {row['name']} {euros(row['cents'])}" for row in rows]


@tool("shop", "Show the name, price and stock of a product id.")
def product_info(world: World, product_id: str) -> Result:
    row = world.row("SELECT * FROM products WHERE lower(id) = ?", product_id.lower())
    if row is None:
        raise ToolFault(f"There is no product with the id '{product_id}'.")
    return {"name": row["name"], "price": euros(row["cents"]), "stock": row["stock"]}


@tool("shop", "Show the status and arrival date of an order.")
def order_status(world: World, order_id: str) -> Result:
    row = world.row("SELECT * FROM orders WHERE lower(id) = ?", order_id.lower())
    if row is None:
        raise ToolFault(f"There is no order with the id '{order_id}'.")
    facts = {"product": row["product"], "status": row["status"]}
    when = spoken_date(Date.fromisoformat(row["arrives"]))
    return (
        facts
        if row["status"] == "cancelled"
        else facts | {"arrived" if row["status"] == "delivered" else "arrives": when}
    )


@tool("shop", "List a customer's orders, optionally only those of one status.")
def list_orders(
    world: World,
    customer: str,
    status: Literal["processing", "packed", "shipped", "delivered", "cancelled"] | None = None,
) -> Result:
    rows = world.rows(
        "SELECT * FROM orders WHERE lower(customer) = ? AND status = coalesce(?, status) ORDER BY id LIMIT 7",
        customer.strip().lower(),
        status,
    )
    if not rows:
        raise ToolFault(f"There are no {status + ' ' if status else ''}orders of '{customer}'.")
    return [f"{row['id']} {row['quantity']} x {row['product']}, {row['status']}" for row in rows]


@tool("shop", "Cancel an order that has not been shipped yet.")
def cancel_order(world: World, order_id: str, reason: str = "") -> Result:
    row = world.row("SELECT * FROM orders WHERE lower(id) = ?", order_id.lower())
    if row is None:
        raise ToolFault(f"There is no order with the id '{order_id}'.")
    if row["status"] not in ("processing", "packed"):
        raise ToolFault(f"Order {row['id']} is already {row['status']} and cannot be cancelled.")
    world.rows("UPDATE orders SET status = 'cancelled' WHERE id = ?", row["id"])
    return {"order": row["id"], "status": "cancelled"} | ({"reason": reason} if reason else {})


@tool("shop", "Show until when the product with a serial is under warranty.", held_out=True)
def check_warranty(world: World, serial: str) -> Result:
    row = world.row("SELECT * FROM warranties WHERE lower(serial) = ?", serial.lower())
    if row is None:
        raise ToolFault(f"There is no product with the serial '{serial}'.")
    return {"product": row["product"], "covered_until": spoken_date(Date.fromisoformat(row["until"]))}


@tool("parcels", "Show where a parcel is and when it is expected.", held_out=True)
def track_parcel(world: World, tracking_code: str) -> Result:
    row = world.row("SELECT * FROM parcels WHERE lower(code) = ?", tracking_code.lower())
    if row is None:
        raise ToolFault(f"There is no parcel with the code '{tracking_code}'.")
    return {
        "state": row["state"],
        "place": row["place"],
        "expected": spoken_date(Date.fromisoformat(row["expected"])),
    }


TOOLS = (
    search_products,
    product_info,
    order_status,
    list_orders,
    cancel_order,
    check_warranty,
    track_parcel,
)
