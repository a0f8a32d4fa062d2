/**
 * A forward proxy on loopback, for plain requests and for tunnels. It remembers what it was asked, with the credentials.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createServer, request as httpRequest } from "node:http"
import type { AddressInfo } from "node:net"
import { connect } from "node:net"

export interface Proxy {
  readonly url: string
  /** The Proxy-Authorization of each request and tunnel. */
  readonly requests: ReadonlyArray<string | undefined>
  /** Answers 407 from now on. */
  readonly refuse: () => void
}

export const startProxy: Effect.Effect<Proxy, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.async<Proxy & { readonly stop: () => void }>((resume) => {
      const requests: Array<string | undefined> = []
      let isRefusing = false
      const proxy = createServer((request, response) => {
        requests.push(request.headers["proxy-authorization"])
        if (isRefusing) return void response.writeHead(407).end()
        const { "proxy-authorization": _, ...headers } = request.headers
        const onward = httpRequest(request.url!, { method: request.method, headers }, (answer) => {
          response.writeHead(answer.statusCode!, answer.headers)
          answer.pipe(response)
        })
        onward.on("error", () => response.destroy())
        request.pipe(onward)
      })
      proxy.on("connect", (request, socket) => {
        requests.push(request.headers["proxy-authorization"])
        if (isRefusing) return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        const [host, port] = request.url!.split(":")
        const onward = connect(Number(port), host, () => {
          socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
          onward.pipe(socket)
          socket.pipe(onward)
        })
        onward.on("error", () => socket.destroy())
        socket.on("error", () => onward.destroy())
      })
      proxy.listen(0, "127.0.0.1", () =>
        resume(
          Effect.succeed({
            url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
            requests,
            refuse: () => void (isRefusing = true),
            stop: () => {
              proxy.close()
              proxy.closeAllConnections()
            }
          })
        )
      )
    }),
    ({ stop }) => Effect.sync(stop)
  ),
  ({ refuse, requests, url }) => ({ refuse, requests, url })
)
