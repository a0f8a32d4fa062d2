/**
 * Following event streams over WebSockets.
 *
 * @since 0.1.0
 */
export * as Connector from "./Connector.js"
export * as ReconnectingSocket from "./ReconnectingSocket.js"
