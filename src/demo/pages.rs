//! Pages of the shop and its JSON API.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Form, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::shop::{Order, PASSWORD, PRODUCTS, Product, Shop, USER};
use super::{FAULTS, Fault};

type Open = State<Arc<Shop>>;

/// Access token of the API. It protects nothing except this shop.
const TOKEN: &str = "demo-token-9f3c";

pub(super) fn router(shop: Arc<Shop>) -> Router {
    let slow = middleware::from_fn_with_state(Arc::clone(&shop), dawdle);
    Router::new()
        .route("/", get(front))
        .route("/products/{slug}", get(product))
        .route("/cart", get(cart).post(add_to_cart))
        .route("/login", get(login_form).post(login))
        .route("/account", get(account))
        .route("/checkout", get(checkout_form).post(checkout))
        .route("/thanks/{number}", get(thanks))
        .route("/health", get(health))
        .route("/oauth/token", post(token))
        .route("/api/products", get(products))
        .route("/api/orders", post(place_order))
        .route("/api/orders/{number}", get(show_order).delete(cancel_order))
        .layer(slow)
        .route("/faults", get(faults))
        .route("/faults/{name}/{state}", post(switch))
        .with_state(shop)
}

async fn dawdle(State(shop): Open, request: Request, next: Next) -> Response {
    if shop.has(Fault::Slow) {
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    next.run(request).await
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1c2733}\
nav{display:flex;gap:1rem;border-bottom:1px solid #d5dbe1;padding-bottom:.5rem;margin-bottom:1rem}\
label{display:block;margin:.5rem 0}input,select,button{font:inherit;padding:.3rem .6rem}\
li{margin:.4rem 0}.price{font-weight:600}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #e4e8ec}";

fn page(title: &str, body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · Mugs and more</title>\
         <link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head><body>\
         <nav aria-label=\"Shop\"><a href=\"/\">Products</a><a href=\"/cart\">Cart</a><a href=\"/account\">Account</a></nav>\
         <main><h1>{title}</h1>{body}</main></body></html>"
    ))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    cookies.split(';').find_map(|pair| pair.trim().strip_prefix("session="))
}

fn with_session(key: &str, answer: impl IntoResponse) -> Response {
    ([(header::SET_COOKIE, format!("session={key}; Path=/; HttpOnly; SameSite=Lax"))], answer).into_response()
}

async fn front(State(shop): Open) -> Html<String> {
    let items: String = PRODUCTS
        .iter()
        .map(|product| {
            format!(
                "<li><a href=\"/products/{0}\">{1}</a> <span class=\"price\" data-testid=\"price-{0}\">{2}</span></li>",
                product.slug,
                product.name,
                shop.price(product)
            )
        })
        .collect();
    page("Products", &format!("<ul>{items}</ul>"))
}

fn by_slug(slug: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.slug == slug)
}

async fn product(State(shop): Open, Path(slug): Path<String>) -> Response {
    let Some(product) = by_slug(&slug) else { return not_found() };
    let button = if shop.has(Fault::MissingButton) {
        ""
    } else {
        // The button is enabled after a short delay, as in real shops with scripts.
        "<button id=\"add\" disabled>Add to cart</button><script>setTimeout(()=>{document.getElementById('add').disabled=false},150)</script>"
    };
    let body = format!(
        "<p class=\"price\" data-testid=\"price\">{}</p><form method=\"post\" action=\"/cart\">\
         <input type=\"hidden\" name=\"slug\" value=\"{}\">{button}</form>",
        shop.price(product),
        product.slug
    );
    page(product.name, &body).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, page("Not found", "<p>There is no such page.</p>")).into_response()
}

#[derive(Deserialize)]
struct Chosen {
    slug: String,
}

async fn add_to_cart(State(shop): Open, headers: HeaderMap, Form(chosen): Form<Chosen>) -> Response {
    let Some(product) = by_slug(&chosen.slug) else { return not_found() };
    let key = shop.session(cookie(&headers), |session| session.cart.push(product.slug));
    with_session(&key, Redirect::to("/cart"))
}

async fn cart(State(shop): Open, headers: HeaderMap) -> Html<String> {
    let cart = shop.visitor(cookie(&headers)).cart;
    let items: String =
        cart.iter().filter_map(|slug| by_slug(slug)).map(|product| format!("<li>{}</li>", product.name)).collect();
    let link = if cart.is_empty() { "<p>The cart is empty.</p>" } else { "<p><a href=\"/checkout\">Checkout</a></p>" };
    page("Cart", &format!("<p>Items: <span data-testid=\"cart-count\">{}</span></p><ul>{items}</ul>{link}", cart.len()))
}

async fn login_form() -> Html<String> {
    page(
        "Sign in",
        "<form method=\"post\"><label>Email <input type=\"email\" name=\"email\" autocomplete=\"username\"></label>\
         <label>Password <input type=\"password\" name=\"password\" autocomplete=\"current-password\"></label>\
         <button>Sign in</button></form>",
    )
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn login(State(shop): Open, headers: HeaderMap, Form(given): Form<Credentials>) -> Response {
    if given.email != USER || given.password != PASSWORD {
        return (StatusCode::UNAUTHORIZED, page("Sign in", "<p role=\"alert\">Email or password is wrong.</p>"))
            .into_response();
    }
    let key = shop.session(cookie(&headers), |session| session.user = Some(given.email));
    with_session(&key, Redirect::to("/account"))
}

async fn account(State(shop): Open, headers: HeaderMap) -> Response {
    match shop.visitor(cookie(&headers)).user {
        Some(user) => {
            page("My account", &format!("<p>Signed in as <span data-testid=\"user\">{user}</span></p>")).into_response()
        }
        None => Redirect::to("/login").into_response(),
    }
}

async fn checkout_form() -> Html<String> {
    page(
        "Checkout",
        "<form method=\"post\"><label>Shipping <select name=\"shipping\"><option value=\"std\">Standard</option>\
         <option value=\"exp\">Express</option></select></label>\
         <label>Card number <input name=\"card\" inputmode=\"numeric\"></label><button>Pay now</button></form>",
    )
}

async fn checkout(State(shop): Open, headers: HeaderMap) -> Response {
    if shop.has(Fault::Error500) {
        return (StatusCode::INTERNAL_SERVER_ERROR, page("Something went wrong", "<p>Error 500</p>")).into_response();
    }
    let visitor = shop.visitor(cookie(&headers));
    if visitor.user.is_none() {
        return Redirect::to("/login").into_response();
    }
    let Some(product) = visitor.cart.first().and_then(|slug| by_slug(slug)) else {
        return Redirect::to("/cart").into_response();
    };
    let order = Order { sku: product.sku.to_owned(), quantity: visitor.cart.len() as u64, reference: "web".into() };
    let number = shop.place(order);
    let key = shop.session(cookie(&headers), |session| session.cart.clear());
    with_session(&key, Redirect::to(&format!("/thanks/{number}")))
}

async fn thanks(Path(number): Path<u64>) -> Html<String> {
    page(
        "Thank you for your order",
        &format!("<p>Your order is <span data-testid=\"order-number\">#{number}</span>.</p>"),
    )
}

async fn health(State(shop): Open) -> Response {
    if shop.healthy() {
        Json(json!({"status": "ok"})).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "down"}))).into_response()
    }
}

#[derive(Deserialize)]
struct Client {
    client_id: String,
    client_secret: String,
}

async fn token(Form(client): Form<Client>) -> Response {
    if client.client_id == USER && client.client_secret == PASSWORD {
        Json(json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})).into_response()
    } else {
        (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response()
    }
}

async fn products(State(shop): Open) -> Json<Value> {
    let items: Vec<Value> = PRODUCTS
        .iter()
        .map(|product| json!({"sku": product.sku, "name": product.name, "price": shop.price(product)}))
        .collect();
    Json(json!({ "items": items }))
}

fn allowed(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == format!("Bearer {TOKEN}").as_bytes())
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, Json(json!({"error": "a token is needed"}))).into_response()
}

#[derive(Deserialize)]
struct NewOrder {
    sku: String,
    quantity: u64,
    #[serde(default)]
    reference: String,
}

async fn place_order(State(shop): Open, headers: HeaderMap, Json(order): Json<NewOrder>) -> Response {
    if !allowed(&headers) {
        return unauthorized();
    }
    if shop.has(Fault::Error500) {
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "the database does not respond"})))
            .into_response();
    }
    let NewOrder { sku, quantity, reference } = order;
    let number = shop.place(Order { sku: sku.clone(), quantity, reference });
    (
        StatusCode::CREATED,
        Json(json!({"id": format!("ord_{number}"), "number": number, "items": [{"sku": sku, "quantity": quantity}]})),
    )
        .into_response()
}

async fn show_order(State(shop): Open, headers: HeaderMap, Path(number): Path<u64>) -> Response {
    if !allowed(&headers) {
        return unauthorized();
    }
    match shop.order(number) {
        Some(order) => Json(json!({
            "number": number, "status": "shipped", "reference": order.reference,
            "items": [{"sku": order.sku, "quantity": order.quantity}],
        }))
        .into_response(),
        None => (StatusCode::NOT_FOUND, Json(json!({"error": "no such order"}))).into_response(),
    }
}

async fn cancel_order(State(shop): Open, headers: HeaderMap, Path(number): Path<u64>) -> StatusCode {
    match (allowed(&headers), shop.cancel(number)) {
        (false, _) => StatusCode::UNAUTHORIZED,
        (true, true) => StatusCode::NO_CONTENT,
        (true, false) => StatusCode::NOT_FOUND,
    }
}

async fn faults(State(shop): Open) -> Html<String> {
    let rows: String = FAULTS
        .iter()
        .map(|row| {
            let (state, action) = if shop.has(row.fault) { ("on", "off") } else { ("off", "on") };
            format!(
                "<tr><td>{}</td><td>{}</td><td>{state}</td><td>{}</td><td><form method=\"post\" action=\"/faults/{}/{action}\">\
                 <button aria-label=\"Switch {} {action}\">Switch {action}</button></form></td></tr>",
                row.name,
                row.what,
                row.opens.join(", "),
                row.name,
                row.name
            )
        })
        .collect();
    page(
        "Faults",
        &format!(
            "<p>What can go wrong with this shop, and which scenarios must find it.</p><table><thead><tr><th>Fault</th><th>What it does</th>\
             <th>State</th><th>Incidents</th><th></th></tr></thead><tbody>{rows}</tbody></table>"
        ),
    )
}

async fn switch(State(shop): Open, Path((name, state)): Path<(String, String)>) -> Response {
    match (Fault::named(&name), state.as_str()) {
        (Some(fault), "on" | "off") => {
            shop.set(fault, state == "on");
            Redirect::to("/faults").into_response()
        }
        _ => not_found(),
    }
}
