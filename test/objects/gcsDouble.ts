/**
 * Cloud Storage in memory, over real HTTP on loopback: what its emulator leaves out, which is tokens of access and of pages, the order
 * of UTF-8 bytes, and buckets that are not there.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IncomingMessage, ServerResponse } from "node:http"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

interface Stored {
  readonly bytes: Buffer
  readonly generation: bigint
  readonly updated: string
}

export interface GcsDouble {
  readonly endpoint: string
  readonly buckets: Map<string, Map<string, Stored>>
  /** Access tokens that are taken; `undefined`: nobody asks for one. */
  accepted: Set<string> | undefined
  /** What came in: method, address, authorization. */
  readonly requests: Array<{
    readonly method: string
    readonly url: string
    readonly authorization: string | undefined
  }>
  /** Answers the next requests in place of the store. */
  readonly instead: Array<(response: ServerResponse) => void>
}

const byUtf8 = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number =>
  Buffer.compare(Buffer.from(a), Buffer.from(b))

const bodyOf = (request: IncomingMessage): Promise<Buffer> =>
  new Promise((resolve) => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => parts.push(part)).on("end", () => resolve(Buffer.concat(parts)))
  })

const json = (response: ServerResponse, status: number, value: unknown): void =>
  void response.writeHead(status, { "content-type": "application/json; charset=UTF-8" }).end(JSON.stringify(value))

const failed = (response: ServerResponse, code: number, reason: string): void =>
  json(response, code, { error: { code, message: `${reason}.`, errors: [{ domain: "global", reason }] } })

// beyond 2^53, as a generation is one day
let generations = 9_007_199_254_740_993_000n

const resource = (name: string, { bytes, generation, updated }: Stored) => ({
  kind: "storage#object",
  name,
  size: String(bytes.length),
  etag: `C${generation}=`,
  generation: String(generation),
  updated
})

const list = (objects: ReadonlyMap<string, Stored>, query: URLSearchParams, response: ServerResponse): void => {
  const token = query.get("pageToken")
  if (token !== null && !token.startsWith("after.")) return failed(response, 400, "invalid")
  const from = token === null ? undefined : Buffer.from(token.slice("after.".length), "base64url")
  const all = [...objects]
    .sort(byUtf8)
    .filter(([name]) => name.startsWith(query.get("prefix") ?? ""))
    .filter(([name]) => from === undefined || Buffer.compare(Buffer.from(name), from) > 0)
  const page = all.slice(0, Number(query.get("maxResults") ?? 1000))
  const next = `after.${Buffer.from(page.at(-1)?.[0] ?? "").toString("base64url")}`
  json(response, 200, {
    kind: "storage#objects",
    ...(page.length < all.length ? { nextPageToken: next } : {}),
    ...(page.length > 0 ? { items: page.map(([name, stored]) => resource(name, stored)) } : {})
  })
}

const answer = async (double: GcsDouble, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const body = await bodyOf(request)
  const { method = "", url = "" } = request
  const { authorization } = request.headers
  double.requests.push({ method, url, authorization })
  const instead = double.instead.shift()
  if (instead !== undefined) return instead(response)
  if (double.accepted !== undefined && !double.accepted.has(authorization?.replace("Bearer ", "") ?? "")) {
    return failed(response, 401, "authError")
  }
  const [path = "", search = ""] = url.split("?")
  const query = new URLSearchParams(search)
  const found = /^(\/upload)?\/storage\/v1\/b\/([^/]+)\/o(?:\/([^/]+))?$/.exec(path)
  if (found === null) return void response.writeHead(404, { "content-type": "text/html" }).end("<html>Not Found</html>")
  const objects = double.buckets.get(decodeURIComponent(found[2]!))
  if (objects === undefined) return failed(response, 404, "notFound")
  if (found[1] !== undefined) {
    const stored = { bytes: body, generation: ++generations, updated: new Date().toISOString() }
    const name = query.get("name")!
    objects.set(name, stored)
    return json(response, 200, resource(name, stored))
  }
  if (found[3] === undefined) return list(objects, query, response)
  const name = decodeURIComponent(found[3])
  const stored = objects.get(name)
  if (stored === undefined) {
    if (query.get("alt") !== "media") return failed(response, 404, "notFound")
    return void response.writeHead(404, { "content-type": "text/html" }).end("No such object")
  }
  if (method === "DELETE") {
    objects.delete(name)
    return void response.writeHead(204).end()
  }
  if (query.get("alt") !== "media") return json(response, 200, resource(name, stored))
  response.writeHead(200, { "x-goog-generation": String(stored.generation), "content-length": stored.bytes.length })
  response.end(stored.bytes)
}

export const startGcsDouble: Effect.Effect<GcsDouble, never, Scope.Scope> = Effect.acquireRelease(
  Effect.async<{ readonly double: GcsDouble; readonly close: () => void }>((resume) => {
    const server = createServer((request, response) => void answer(double, request, response))
    const double: { -readonly [K in keyof GcsDouble]: GcsDouble[K] } = {
      endpoint: "",
      buckets: new Map(),
      accepted: undefined,
      requests: [],
      instead: []
    }
    server.listen(0, "127.0.0.1", () => {
      double.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      const close = () => {
        server.closeAllConnections()
        server.close()
      }
      resume(Effect.succeed({ double, close }))
    })
  }),
  ({ close }) => Effect.sync(close)
).pipe(Effect.map(({ double }) => double))
