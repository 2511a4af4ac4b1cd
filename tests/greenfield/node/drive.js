// Calls one function of the unchanged client: node drive.js <service> <function> <argument as JSON>.
// Prints {"value": ...}, or {"error": {"status": ..., "body": ...}} for an answer that the client takes for an error.
"use strict";
const client = require("btcpay-greenfield-node-client");

client.OpenAPI.BASE = process.env.LNPAY_URL;
client.OpenAPI.TOKEN = process.env.LNPAY_KEY;

const [service, name, argument] = process.argv.slice(2);

client[service][name](JSON.parse(argument)).then(
  (value) => console.log(JSON.stringify({ value })),
  (error) => console.log(JSON.stringify({ error: { status: error.status, body: error.body, message: error.message } })),
);
