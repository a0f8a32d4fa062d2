/**
 * A server on this machine whose document changes by itself, for the programs beside it.
 */
import { Effect, Schedule } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

/** Starts it, and gives the url of a document `{ "version": n }` whose n grows every 300 ms. It stops with its scope. */
export const changingServer = Effect.gen(function* () {
  let version = 1
  const server = createServer((request, response) => {
    const etag = `"${version}"`
    if (request.headers["if-none-match"] === etag) {
      response.writeHead(304).end()
    } else {
      response.writeHead(200, { "content-type": "application/json", etag }).end(JSON.stringify({ version }))
    }
  })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.async<void>((resume) => {
        server.closeAllConnections()
        server.close(() => resume(Effect.void))
      })
  )
  yield* Effect.sync(() => version++).pipe(Effect.repeat(Schedule.spaced("300 millis")), Effect.forkScoped)
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/document.json`
})
