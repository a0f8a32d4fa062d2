/**
 * The sockets that undici has open in this process, as it sees them itself: a server hears of a closed one later than of the
 * one that takes its place.
 */
import { subscribe } from "node:diagnostics_channel"
import type { Socket } from "node:net"

const open = new Map<string, Set<Socket>>()
const most = new Map<string, number>()

subscribe("undici:client:connected", (message) => {
  const { connectParams, socket } = message as { connectParams: { port: string }; socket: Socket }
  const { port } = connectParams
  const sockets = open.get(port) ?? new Set()
  open.set(port, sockets.add(socket))
  socket.once("close", () => sockets.delete(socket))
  most.set(port, Math.max(most.get(port) ?? 0, sockets.size))
})

/** How many there were at most at once to an origin. */
export const mostTo = (origin: string): number => most.get(new URL(origin).port) ?? 0
