/**
 * Following event streams over WebSockets, and Tap servers.
 *
 * @since 0.1.0
 */
export * as Connector from "./Connector.js"
export * as ReconnectingSocket from "./ReconnectingSocket.js"
export * as Tap from "./Tap.js"
export * as TapClient from "./TapClient.js"
