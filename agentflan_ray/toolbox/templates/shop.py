"""Tasks about a shop: products, orders, warranties and parcels."""

from __future__ import annotations

from agentflan_ray.toolbox.names import with_article
from agentflan_ray.toolbox.scene import Scene, template
from agentflan_ray.toolbox.world import BASE_RATES

CANNOT = "cannot|can't|could not|couldn't|not possible|no longer"


@template(weight=1.6)
def order_where(s: Scene) -> None:
    order = s.pick("SELECT * FROM orders")["id"]
    s.ask(
        [
            f"What is the status of order {order}?",
            f"Has my order {order} been sent yet?",
            f"Where does order {order} stand at the moment?",
            f"Could you check how my order {order} is doing?",
            f"I ordered something, the number is {order}. What is its status?",
            f"Any news on {order}, my order?",
        ]
    )
    got = s.call(
        "order_status",
        [
            f"The order number {order} is given, so its status can be read directly.",
            f"{order} identifies the order; nothing else is needed to see where it stands.",
            f"Whatever happened to {order} will be in its order record.",
            f"A look at {order} tells whether it is on its way.",
        ],
        order_id=order,
    )
    status, product = got["status"], got["product"]
    when = f", and it arrives on {got['arrives']}" if "arrives" in got else ""
    when = f" on {got['arrived']}" if "arrived" in got else when
    s.answer(
        [status],
        [
            f"Order {order} ({product}) is {status}{when}."
            if status != "delivered"
            else f"Order {order} ({product}) was {status}{when}.",
            f"The status of order {order} is: {status}.",
            f"Your order {order} for {product} has the status {status}.",
        ],
        [f"The record says {status}, which is what the user asked about."],
    )


@template(weight=1.2)
def order_arrival(s: Scene) -> None:
    order = s.pick("SELECT * FROM orders WHERE status IN ('processing', 'packed', 'shipped')")["id"]
    s.ask(
        [
            f"When will order {order} arrive?",
            f"On which day can I expect my order {order}?",
            f"What is the delivery date of {order}?",
            f"I am waiting for order {order}. When does it come?",
        ]
    )
    got = s.call(
        "order_status",
        [
            f"The arrival date of {order} is kept with its status.",
            f"{order} is still open, so its record should hold an expected date.",
            f"Checking {order} will show when it is due to arrive.",
        ],
        order_id=order,
    )
    s.answer(
        [got["arrives"]],
        [
            f"Order {order} should arrive on {got['arrives']}.",
            f"Your {got['product']} is expected on {got['arrives']}.",
            f"It arrives on {got['arrives']}.",
        ],
        [f"The order is {got['status']}, with {got['arrives']} as its date."],
    )


@template(weight=1.3)
def product_by_id(s: Scene) -> None:
    product = s.pick("SELECT * FROM products")["id"]
    asked = s.one("price", "stock", "name")
    s.ask(
        {
            "price": [
                f"How much does product {product} cost?",
                f"What is the price of {product}?",
                f"I would like to know the price of the product with the id {product}.",
                f"Tell me what {product} costs in the shop.",
            ],
            "stock": [
                f"How many pieces of {product} are in stock?",
                f"What is the stock of product {product}?",
                f"Do we still have {product}, and how many?",
                f"How many units of product {product} are left?",
            ],
            "name": [
                f"Which product has the id {product}?",
                f"What is {product} in our shop?",
                f"The label says {product}. What product is that?",
            ],
        }[asked]
    )
    got = s.call(
        "product_info",
        [
            f"{product} is a product id, and its record has the {asked}.",
            f"With the id {product} the {asked} can be read without a search.",
            f"The shop's record of {product} will tell the {asked}.",
            f"No need to search by name, {product} points to one product.",
        ],
        product_id=product,
    )
    value, name = str(got[asked]), got["name"]
    s.answer(
        [value.removesuffix(" EUR")],
        {
            "price": [
                f"The {name} ({product}) costs {value}.",
                f"{product} is the {name}, at {value}.",
                f"It costs {value}.",
            ],
            "stock": [
                f"There are {value} pieces of {product} ({name}) in stock.",
                f"The stock of the {name} ({product}) is {value}.",
            ],
            "name": [f"{product} is the {name}.", f"That is the {name}.", f"The id {product} belongs to the {name}."],
        }[asked],
        [f"The {name} is the product, and its {asked} is {value}."] if asked != "name" else None,
    )


@template(weight=1.2)
def product_stock_by_name(s: Scene) -> None:
    name = s.pick("SELECT name FROM products")["name"]
    s.ask(
        [
            f"How many pieces of the {name} are in stock?",
            f"Is the {name} still available? How many do you have?",
            f"What is the current stock of the {name}?",
            f"I want to buy the {name}. How many are left?",
        ]
    )
    found = s.call(
        "search_products",
        [
            f"Stock is kept by product id, so the {name} must be found first.",
            f"The {name} is known only by name; a search gives its id.",
            f"Begin with a search for the {name} to learn its id.",
        ],
        keyword=name,
    )
    product = found[0].split()[0]
    stock = s.call(
        "product_info",
        [
            f"The {name} is {product}; its record has the stock.",
            f"Now {product} can be opened to see how many are left.",
            f"The search shows id and price but no stock, so open {product}.",
        ],
        product_id=product,
    )["stock"]
    s.answer(
        [str(stock)],
        [
            f"There are {stock} pieces of the {name} in stock.",
            f"The stock of the {name} is {stock}.",
            f"For the {name} ({product}) the shop has {stock} in stock.",
        ],
    )


@template()
def product_price_by_name(s: Scene) -> None:
    name = s.pick("SELECT name FROM products")["name"]
    s.ask(
        [
            f"What does the {name} cost?",
            f"How much is the {name} in the shop?",
            f"Please look up the price of the {name}.",
            f"I am interested in the {name}. What is its price?",
        ]
    )
    found = s.call(
        "search_products",
        [
            f"A product search lists prices, so looking for the {name} is enough.",
            f"The {name} is in the shop's list together with its price.",
            f"Search for the {name}; the price stands beside it.",
        ],
        keyword=name,
    )
    price = " ".join(found[0].split()[-2:])
    s.answer(
        [price.removesuffix(" EUR")],
        [f"The {name} costs {price}.", f"It is {price} for the {name}.", f"The price of the {name} is {price}."],
    )


@template()
def product_cheapest(s: Scene) -> None:
    good = s.pick("SELECT DISTINCT substr(name, instr(name, ' ') + 1) AS good FROM products ORDER BY good")["good"]
    s.ask(
        [
            f"What is the cheapest {good} in the shop?",
            f"Which {good} costs the least?",
            f"I need a {good} and want to spend as little as possible. Which one is it?",
            f"Find me the cheapest {good}.",
        ]
    )
    found = s.call(
        "search_products",
        [
            f"All products with the word {good} can be compared by price.",
            f"List every {good} first; the prices then show the cheapest.",
            f"A search for {good} brings the candidates with their prices.",
        ],
        keyword=good,
    )
    name, price = " ".join(found[0].split()[1:-2]), " ".join(found[0].split()[-2:])
    s.answer(
        [name, price.removesuffix(" EUR")],
        [
            f"The cheapest {good} is the {name}, for {price}.",
            f"That is the {name} at {price}.",
            f"The {name} costs the least, {price}.",
        ],
        [f"Among the {good} entries, {price} is the lowest price."] if len(found) > 1 else None,
    )


@template()
def product_budget(s: Scene) -> None:
    row = s.pick("SELECT * FROM products")
    category, limit = row["category"], row["cents"] // 1000 * 10 + 10
    s.ask(
        [
            f"What {category} products do you have for at most {limit} euros?",
            f"Show me {category} products under {limit} EUR.",
            f"I can spend {limit} euros. Which {category} products can I get?",
        ]
    )
    found = s.call(
        "search_products",
        [
            f"The search takes a highest price, so {category} up to {limit} can be asked at once.",
            f"Two limits are given: the kind is {category}, the price at most {limit}.",
            f"Look for {category} and leave out whatever costs more than {limit} euros.",
        ],
        keyword=category,
        max_price=limit,
    )
    products = [" ".join(entry.split()[1:-2]) for entry in found]
    listed = products[0] if len(products) == 1 else f"{', '.join(products[:-1])} and {products[-1]}"
    s.answer(
        products,
        [
            f"For up to {limit} euros there is: {listed}.",
            f"Within {limit} EUR you can get: {listed}.",
            f"These {category} products fit your budget: {listed}."
            if len(products) > 1
            else f"One {category} product fits your budget: {listed}.",
        ],
    )


@template()
def orders_of_customer(s: Scene) -> None:
    row = s.pick("SELECT * FROM orders")
    customer, status = row["customer"], row["status"]
    s.ask(
        [
            f"Which orders of {customer} are {status}?",
            f"List the {status} orders of our customer {customer}.",
            f"Does {customer} have {status} orders? Give me the numbers.",
            f"Show all orders by {customer} with the status {status}.",
        ]
    )
    found = s.call(
        "list_orders",
        [
            f"The customer is {customer}, and only {status} orders count.",
            f"Orders can be listed by customer and narrowed to {status}.",
            f"Filter the orders of {customer} by the status {status}.",
        ],
        customer=customer,
        status=status,
    )
    ids = [entry.split()[0] for entry in found]
    described = [f"{entry.split()[0]} ({entry.split(' ', 1)[1].split(',')[0]})" for entry in found]
    listed = described[0] if len(described) == 1 else f"{', '.join(described[:-1])} and {described[-1]}"
    s.answer(
        ids,
        [
            f"{customer} has {len(ids)} {status} order{'s' if len(ids) > 1 else ''}: {listed}.",
            f"The {status} orders of {customer}: {listed}.",
        ],
    )


@template(weight=1.2)
def order_cancelled(s: Scene) -> None:
    order = s.pick("SELECT id FROM orders WHERE status IN ('processing', 'packed')")["id"]
    reason = s.one("", "", "wrong size", "ordered twice", "found it cheaper", "no longer needed")
    because = f" The reason: {reason}." if reason else ""
    s.ask(
        [
            f"Please cancel order {order}.{because}",
            f"I want to cancel my order {order}.{because}",
            f"Order {order} is not needed. Cancel it, please.{because}",
            f"Could you call off order {order} for me?{because}",
        ]
    )
    s.call(
        "cancel_order",
        [
            f"The user clearly wants {order} cancelled and gives the number.",
            f"{order} is to be cancelled; the shop will refuse if it is too late.",
            f"Cancelling {order} needs only its number{' and the reason given' if reason else ', which is there'}.",
            f"The wish is plain: the user wants to call off {order}.",
        ],
        order_id=order,
        **({"reason": reason} if reason else {}),
    )
    s.answer(
        ["cancelled|canceled"],
        [
            f"Order {order} has been cancelled.",
            f"Done, {order} is cancelled.",
            f"I cancelled your order {order}.",
        ],
        ["The shop confirms that the order is cancelled, so tell the user."],
    )


@template(weight=0.7)
def order_cancel_refused(s: Scene) -> None:
    row = s.pick("SELECT * FROM orders WHERE status IN ('shipped', 'delivered')")
    order, status = row["id"], row["status"]
    s.ask(
        [
            f"Cancel order {order} for me.",
            f"I changed my mind about {order}. Please cancel the order.",
            f"Can order {order} be cancelled? If so, do it.",
        ]
    )
    s.fault(
        "cancel_order",
        [
            f"Try to cancel {order}; the shop knows whether it still can be stopped.",
            f"The order number is {order}, so the cancellation can be requested.",
            f"Whether it is too late for {order} will show when cancelling.",
        ],
        order_id=order,
    )
    s.answer(
        [CANNOT, status],
        [
            f"Order {order} is already {status}, so it cannot be cancelled.",
            f"Sorry, {order} cannot be cancelled any more: it is already {status}.",
            f"It is too late; {order} is {status} and can't be cancelled.",
        ],
        [f"The shop refuses because the order is {status}; say so plainly."],
    )


@template(weight=0.8)
def order_cancelled_by_name(s: Scene) -> None:
    row = s.pick(
        "SELECT customer, product FROM orders WHERE status = 'processing'"
        " GROUP BY customer, product HAVING count(*) = 1 ORDER BY customer, product"
    )
    customer, product = row["customer"], row["product"]
    s.ask(
        [
            f"This is {customer}. Please cancel my order of the {product}, it is still processing.",
            f"My name is {customer} and I want to cancel the {product} that is processing.",
            f"Cancel the processing order of {customer}, the one for the {product}.",
        ]
    )
    found = s.call(
        "list_orders",
        [
            f"The order number is missing, but the orders of {customer} will show it.",
            f"To cancel, an order id is needed; list what {customer} has processing.",
            f"Find the order of the {product} among those of {customer}.",
        ],
        customer=customer,
        status="processing",
    )
    order = next(entry for entry in found if f" x {product}," in entry).split()[0]
    s.call(
        "cancel_order",
        [
            f"The {product} is order {order}, so that one is to be cancelled.",
            f"{order} matches the {product}; it is processing and can be stopped.",
        ],
        order_id=order,
    )
    s.answer(
        ["cancelled|canceled", order],
        [
            f"Your order {order} for the {product} has been cancelled.",
            f"I cancelled order {order}, the {product}.",
            f"Done: {order} ({product}) is cancelled.",
        ],
    )


@template(weight=0.8)
def product_price_abroad(s: Scene) -> None:
    product = s.pick("SELECT id FROM products")["id"]
    currency = s.one(*BASE_RATES)
    s.ask(
        [
            f"How much does product {product} cost in {currency}?",
            f"What is the price of {product} in {currency}?",
            f"I pay in {currency}. What does product {product} cost me?",
        ]
    )
    price = s.call(
        "product_info",
        [
            f"The shop's price of {product} is needed before it can be changed into {currency}.",
            f"First the price of {product} in euros, then the exchange.",
            f"Start with the record of {product} to see its price.",
        ],
        product_id=product,
    )["price"]
    amount = float(price.removesuffix(" EUR"))
    amount = int(amount) if amount == int(amount) else amount
    value = s.call(
        "convert_currency",
        [
            f"The price is {price}; now turn it into {currency}.",
            f"{price} has to be exchanged to {currency}.",
            f"Only the change from EUR to {currency} is left.",
        ],
        amount=amount,
        source="EUR",
        target=currency,
    )
    s.answer(
        [value.split()[0]],
        [
            f"Product {product} costs {value}.",
            f"The price of {product} is {price}, that is {value}.",
            f"At today's rate it is {value}.",
        ],
    )


@template(weight=0.6)
def orders_total(s: Scene) -> None:
    rows = s.rng.sample(s.world.rows("SELECT * FROM products ORDER BY id"), 2)
    first, second = rows[0]["id"], rows[1]["id"]
    s.ask(
        [
            f"What do products {first} and {second} cost together?",
            f"I want to buy {first} and {second}. What is the total price?",
            f"Add up the prices of {first} and {second} for me.",
        ]
    )
    prices = []
    for product, thoughts in (
        (
            first,
            [
                f"Both prices are needed for the total; begin with {first}.",
                f"To add them up, open {first} first and note its price.",
            ],
        ),
        (
            second,
            [
                f"One price is there; now the other one, that of {second}.",
                f"The price of the first is known, so look at {second}.",
            ],
        ),
    ):
        prices.append(s.call("product_info", thoughts, product_id=product)["price"].removesuffix(" EUR"))
    total = s.call(
        "calculate",
        [
            f"The prices are {prices[0]} and {prices[1]}; add them.",
            f"Sum up {prices[0]} and {prices[1]} to get the total.",
        ],
        expression=f"{prices[0]} + {prices[1]}",
    )
    total = f"{float(total):.2f}"
    s.answer(
        [total],
        [
            f"Together they cost {total} EUR.",
            f"The total for {first} and {second} is {total} EUR.",
            f"{first} and {second} come to {total} EUR.",
        ],
    )


@template(held_out=True)
def warranty_end(s: Scene) -> None:
    serial = s.pick("SELECT serial FROM warranties")["serial"]
    s.ask(
        [
            f"Until when is the product with the serial {serial} under warranty?",
            f"My device has the serial number {serial}. When does its warranty end?",
            f"How long is {serial} still covered by the warranty?",
            f"Please look up the end of the warranty for serial {serial}.",
        ]
    )
    got = s.call(
        "check_warranty",
        [
            f"The serial {serial} is known, and the warranty record goes by serial.",
            f"Warranty data for {serial} will name the last day.",
            f"With {serial} at hand the end of the cover can be looked up.",
        ],
        serial=serial,
    )
    value = got["covered_until"]
    s.answer(
        [value],
        [
            f"The {got['product']} with serial {serial} is covered until {value}.",
            f"Its warranty ends on {value}.",
            f"The warranty of {serial} runs until {value}.",
        ],
    )


@template(held_out=True)
def warranty_product(s: Scene) -> None:
    serial = s.pick("SELECT serial FROM warranties")["serial"]
    s.ask(
        [
            f"Which product was sold under the serial {serial}?",
            f"There is a serial {serial} on this warranty card. What product is it for?",
            f"Find out what product carries the serial {serial}.",
        ]
    )
    product = s.call(
        "check_warranty",
        [
            f"The warranty record of {serial} names the product it covers.",
            f"A serial such as {serial} is listed with its product.",
        ],
        serial=serial,
    )["product"]
    s.answer([product], [f"The serial {serial} belongs to {with_article(product)}.", f"It is {with_article(product)}."])


@template(held_out=True, weight=1.5)
def parcel_where(s: Scene) -> None:
    code = s.pick("SELECT code FROM parcels")["code"]
    asked = s.one("place", "expected", "state")
    s.ask(
        {
            "place": [
                f"Where is my parcel {code} right now?",
                f"In which town is the parcel {code}?",
                f"My parcel has the code {code}. Where is it?",
            ],
            "expected": [
                f"When is the parcel {code} expected?",
                f"On what date will parcel {code} reach me?",
                f"I am waiting for the parcel {code}. Which day is it due?",
            ],
            "state": [
                f"What is the state of parcel {code}?",
                f"Is the parcel {code} out for delivery, or what is happening to it?",
                f"Please track {code} and tell me its state.",
            ],
        }[asked]
    )
    got = s.call(
        "track_parcel",
        [
            f"The tracking code {code} is all that is needed to find the parcel.",
            f"{code} can be tracked, and the entry tells place, state and date.",
            f"Tracking the parcel {code} will show exactly what the user asks.",
        ],
        tracking_code=code,
    )
    s.answer(
        [got[asked]],
        {
            "place": [f"Your parcel {code} is in {got['place']}.", f"It is in {got['place']}, {got['state']}."],
            "expected": [f"The parcel {code} is expected on {got['expected']}.", f"It is due on {got['expected']}."],
            "state": [f"The parcel {code} is {got['state']}.", f"It is {got['state']} in {got['place']}."],
        }[asked],
    )


TEMPLATES = (
    order_where,
    order_arrival,
    product_by_id,
    product_stock_by_name,
    product_price_by_name,
    product_cheapest,
    product_budget,
    orders_of_customer,
    order_cancelled,
    order_cancel_refused,
    order_cancelled_by_name,
    product_price_abroad,
    orders_total,
    warranty_end,
    warranty_product,
    parcel_where,
)
