import { assert, describe, it } from "@effect/vitest"
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { Config, ConfigProvider, Duration, Effect, Either, Fiber, Layer, Redacted, Stream, TestClock } from "effect"
import type { ObjectStore } from "effect-periscope/objects"
import { WebDav } from "effect-periscope/objects"
import { ScriptedHttpClient } from "effect-periscope/testing"

const url = "https://dav.example.com/files/"

const ok = (inside: string) => `<D:propstat><D:prop>${inside}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>`

const folder = (href: string) =>
  `<D:response><D:href>${href}</D:href>${ok("<D:resourcetype><D:collection/></D:resourcetype>")}</D:response>`

const file = (href: string, etag = '"1"') =>
  `<D:response><D:href>${href}</D:href>${ok(
    `<D:resourcetype/><D:getcontentlength>3</D:getcontentlength><D:getetag>${etag}</D:getetag>` +
      "<D:getlastmodified>Sat, 21 Nov 2026 07:46:04 GMT</D:getlastmodified>"
  )}</D:response>`

const multistatus = (...responses: ReadonlyArray<string>): ScriptedHttpClient.Answer => ({
  status: 207,
  headers: { "content-type": "application/xml" },
  body: `<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">${responses.join("\n")}</D:multistatus>`
})

const found = multistatus(folder("/files/"), file("/files/a"))

const storeOn = (script: ScriptedHttpClient.Script, options: Partial<WebDav.Options> = {}) => {
  const server = ScriptedHttpClient.make(script)
  return Effect.map(WebDav.make({ url, ...options }).pipe(Effect.provide(server.layer)), (store) => ({ server, store }))
}

const keysOf = (page: ObjectStore.ObjectPage) => page.objects.map(({ key }) => key)

describe("WebDav", () => {
  it.effect(
    "O8 answers of every server are read: other prefixes, whole addresses, CDATA, other characters encoded",
    () =>
      Effect.gen(function* () {
        const odd = `<multistatus xmlns="DAV:" xmlns:x="urn:x">
        <response><href>https://dav.example.com/files/</href><propstat><prop><resourcetype><collection/><x:principal/></resourcetype></prop><status>HTTP/1.1 200 OK</status></propstat></response>
        <response><href>/files/b%20%26amp;'</href>
          <propstat><prop><getcontentlength/></prop><status>HTTP/1.1 404 Not Found</status></propstat>
          <propstat><prop><resourcetype/><getcontentlength>7</getcontentlength><x:getetag>no</x:getetag><getetag><![CDATA[W/"e"]]></getetag></prop><status>HTTP/2 200</status></propstat>
        </response>
        <response><href>/files/a&amp;b/</href><propstat><prop><resourcetype><collection/></resourcetype></prop><status>HTTP/1.1 200 OK</status></propstat></response>
        <response><href>/files/gone</href><status>HTTP/1.1 404 Not Found</status></response>
        <response><href>/files/deep/er</href><propstat><prop><resourcetype/><getcontentlength>1</getcontentlength></prop><status>HTTP/1.1 200 OK</status></propstat></response>
        </multistatus>`
        const { server, store } = yield* storeOn([
          { status: 207, body: odd },
          multistatus(folder("/files/a&amp;b/"), file("/files/a%26b/x"))
        ])
        const { objects } = yield* store.listPage()
        assert.deepStrictEqual(objects, [
          { key: "a&b/x", size: 3, etag: '"1"', lastModifiedMillis: Date.UTC(2026, 10, 21, 7, 46, 4) },
          { key: "b &amp;'", size: 7, etag: '"e"' }
        ])
        assert.deepStrictEqual(
          server.calls.map(({ headers, method, path }) => [method, path, headers["depth"]]),
          [
            ["PROPFIND", "/files/", "1"],
            ["PROPFIND", "/files/a%26b/", "1"]
          ]
        )
      })
  )

  it.effect("O2 an answer that is cut is an error, never a shorter page", () =>
    Effect.gen(function* () {
      const whole = multistatus(folder("/files/"), file("/files/a"), file("/files/ü"))
      const bytes = new TextEncoder().encode(whole.body as string)
      for (let length = 0; length < bytes.length; length += 61) {
        const { store } = yield* storeOn([{ status: 207, body: bytes.slice(0, length) }])
        const result = yield* Effect.either(store.listPage())
        assert.isTrue(Either.isLeft(result), `cut after ${length} bytes`)
        if (Either.isLeft(result)) assert.include(["Truncated", "Decode"], result.left.reason)
      }
      for (const ending of ["truncated", "short"] as const) {
        const { store } = yield* storeOn([{ ...whole, ending }])
        assert.strictEqual((yield* Effect.flip(store.listPage())).reason, "Truncated")
      }
      const { store } = yield* storeOn([whole])
      assert.deepStrictEqual(keysOf(yield* store.listPage()), ["a", "ü"])
    })
  )

  it.effect("O2 what is no WebDAV folder, or hides a part, is the documented error", () =>
    Effect.gen(function* () {
      const denied = "<D:response><D:href>/files/x/</D:href><D:status>HTTP/1.1 403 Forbidden</D:status></D:response>"
      const untold = `<D:response><D:href>/files/x</D:href><D:propstat><D:prop><D:resourcetype/></D:prop><D:status>HTTP/1.1 403 Forbidden</D:status></D:propstat></D:response>`
      const answers: ReadonlyArray<readonly [ScriptedHttpClient.Reply, ObjectStore.Reason, boolean]> = [
        [{ status: 200, body: "<html><body>Welcome</body></html>" }, "MissingContainer", false],
        [{ status: 207, body: "<!DOCTYPE html><html><br></html>" }, "MissingContainer", false],
        [
          { status: 301, headers: { location: "https://elsewhere.example.com/?sig=secret" } },
          "MissingContainer",
          false
        ],
        [{ status: 405 }, "MissingContainer", false],
        [{ status: 401, body: "who?" }, "Unauthorized", false],
        [{ status: 403 }, "Unauthorized", false],
        [multistatus(folder("/files/"), denied), "Unauthorized", false],
        [multistatus(folder("/files/"), untold), "Unauthorized", false],
        [multistatus(folder("/other/")), "Decode", true],
        [multistatus(folder("/files/"), file("/files/%ff")), "InvalidRequest", false],
        [multistatus(folder("/files/"), file("/files/a%2Fb")), "Decode", true],
        [{ status: 207, body: "<multistatus xmlns='DAV:'>&undefined;</multistatus>" }, "Decode", true],
        [{ status: 423 }, "Status", false],
        [{ status: 507 }, "Status", true],
        ["refused", "Network", true],
        ["reset", "Network", true]
      ]
      for (const [answer, reason, isRetryable] of answers) {
        const { store } = yield* storeOn([answer])
        const error = yield* Effect.flip(store.listPage())
        assert.deepStrictEqual([error.reason, error.operation, error.isRetryable], [reason, "listPage", isRetryable])
        assert.notInclude(error.message, "secret")
      }
      for (const root of [{ status: 404 }, multistatus(file("/files"))] as const) {
        const { store } = yield* storeOn([root, root])
        assert.strictEqual((yield* Effect.flip(store.listPage())).reason, "MissingContainer")
      }
    })
  )

  it.effect("O6 a name with a raw ? or # is an error: cut there it would be another key", () =>
    Effect.gen(function* () {
      for (const href of ["/files/a?b", "/files/a#b", "https://dav.example.com/files/a?b=c"]) {
        const { store } = yield* storeOn([multistatus(folder("/files/"), file("/files/a"), file(href))])
        const error = yield* Effect.flip(store.listPage())
        assert.strictEqual(error.reason, "InvalidRequest")
        assert.match(error.message, /"\?" or "#" as it is; rename it/)
      }
    })
  )

  it.effect("O2 a folder that fails in the middle fails its page, and one that is gone does not", () =>
    Effect.gen(function* () {
      const root = multistatus(folder("/files/"), folder("/files/a/"), file("/files/b"))
      const { store } = yield* storeOn([root, { status: 503, headers: { "retry-after": "7" } }])
      const error = yield* Effect.flip(store.listPage())
      assert.deepStrictEqual([error.reason, error.status, error.isRetryable], ["Status", 503, true])
      assert.deepStrictEqual(error.retryAfter, Duration.seconds(7))
      const gone = yield* storeOn([root, { status: 404 }, multistatus(folder("/files/"))])
      assert.deepStrictEqual(keysOf(yield* gone.store.listPage()), ["b"])
      assert.strictEqual(gone.server.calls.length, 3)
      const all = yield* storeOn([root, { status: 404 }, { status: 404 }])
      assert.strictEqual((yield* Effect.flip(all.store.listPage())).reason, "MissingContainer")
    })
  )

  it.effect("O2 a redirect of a folder is an error, never the end of its files", () =>
    Effect.gen(function* () {
      const root = multistatus(folder("/files/"), folder("/files/a/"), file("/files/b"))
      for (const location of [
        "https://login.example.com/files/a/?sso=1",
        "https://login.example.com/files/a/",
        "/files/a/?sso=1",
        "/files/a/",
        "/files/a",
        "/login"
      ]) {
        for (const status of [301, 302, 303, 307, 308]) {
          const { store } = yield* storeOn([root, { status, headers: { location } }])
          const error = yield* Effect.flip(store.listPage())
          assert.deepStrictEqual([error.reason, error.status], ["MissingContainer", status])
          assert.notInclude(error.message, "sso")
        }
      }
      const { store } = yield* storeOn([root, { status: 302 }])
      assert.strictEqual((yield* Effect.flip(store.listPage())).reason, "MissingContainer")
    })
  )

  it.effect("only a redirect to the same address with a slash at its end says that a key is a folder's", () =>
    Effect.gen(function* () {
      for (const location of [`${url}a/`, "/files/a/", "/files/%61/"]) {
        const { store } = yield* storeOn([{ status: 301, headers: { location } }, multistatus(folder("/files/"))])
        assert.strictEqual((yield* Effect.flip(store.head("a"))).reason, "NotFound", location)
      }
      for (const location of [
        "https://login.example.com/files/a/",
        "http://dav.example.com/files/a/",
        "/files/a/?sso=1",
        "/files/a",
        "/files/b/"
      ]) {
        const { server, store } = yield* storeOn([{ status: 302, headers: { location } }])
        const error = yield* Effect.flip(store.remove("a"))
        assert.deepStrictEqual([error.reason, error.status], ["MissingContainer", 302], location)
        assert.strictEqual(server.calls.length, 1)
      }
    })
  )

  it.effect("a listing without end stops at 64 MiB, be it of many entries or one text", () =>
    Effect.gen(function* () {
      const start = '<D:multistatus xmlns:D="DAV:"><D:response><D:href>/files/'
      const entry = "x</D:href></D:response><D:response><D:href>/files/"
      for (const part of [entry.repeat(20_000), "y".repeat(1_000_000), " ".repeat(1_000_000)]) {
        let sent = 0
        let isCancelled = false
        const body = new ReadableStream<Uint8Array>({
          pull: (controller) => {
            const bytes = new TextEncoder().encode(sent === 0 ? start : part)
            sent += bytes.length
            if (sent > 80 * 1024 * 1024) controller.error(new Error("nobody stopped it"))
            else controller.enqueue(bytes)
          },
          cancel: () => {
            isCancelled = true
          }
        })
        const client = HttpClient.make((request) =>
          Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { status: 207 })))
        )
        const store = yield* Effect.provideService(WebDav.make({ url }), HttpClient.HttpClient, client)
        const { message, reason } = yield* Effect.flip(store.listPage())
        assert.strictEqual(reason, "Decode")
        assert.include(message, "more than 67108864 bytes")
        assert.isTrue(isCancelled)
      }
    })
  )

  it.effect("credentials are asked for again after a 401, once; none is shown", () =>
    Effect.gen(function* () {
      let asked = 0
      const bearerToken = Effect.sync(() => Redacted.make(`token-${++asked}\n`))
      const renewed = yield* storeOn([{ status: 401 }, found], { bearerToken })
      yield* renewed.store.listPage()
      assert.deepStrictEqual(
        renewed.server.calls.map(({ headers }) => headers["authorization"]),
        ["Bearer token-1", "Bearer token-2"]
      )
      const refused = yield* storeOn([{ status: 401 }, { status: 401 }], { bearerToken })
      const error = yield* Effect.flip(refused.store.listPage())
      assert.strictEqual(error.reason, "Unauthorized")
      assert.notInclude(JSON.stringify(error), "token-")
      const fixed = yield* storeOn([{ status: 401 }], { url: "https://tester:p%25w@dav.example.com/files" })
      assert.strictEqual((yield* Effect.flip(fixed.store.listPage())).reason, "Unauthorized")
      assert.strictEqual(fixed.store.identity, url)
      assert.strictEqual(fixed.server.calls[0]!.headers["authorization"], `Basic ${btoa("tester:p%w")}`)
      const failing = yield* storeOn([], { bearerToken: Effect.fail("the vault says: secret") })
      const unable = yield* Effect.flip(failing.store.listPage())
      assert.strictEqual(unable.reason, "Unauthorized")
      assert.notInclude(JSON.stringify(unable), "secret")
    })
  )

  it.effect("a request and each wait of a download end at the timeout", () =>
    Effect.gen(function* () {
      const { store } = yield* storeOn(["hang"], { timeout: "10 seconds" })
      const listing = yield* Effect.fork(Effect.flip(store.listPage()))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(listing)).reason, "Timeout")
      const half = yield* storeOn([{ body: "abcdef", ending: "hang", sent: 3 }], { timeout: "10 seconds" })
      const reading = yield* Effect.fork(Effect.flip(Stream.runDrain(half.store.get("a"))))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(reading)).reason, "Timeout")
    })
  )

  it.effect("a download that is shorter than announced is Truncated", () =>
    Effect.gen(function* () {
      for (const ending of ["truncated", "short"] as const) {
        const { store } = yield* storeOn([{ body: "abcdef", ending }])
        const error = yield* Effect.flip(Stream.runDrain(store.get("a")))
        assert.deepStrictEqual([error.reason, error.operation, error.key], ["Truncated", "get", "a"])
      }
    })
  )

  it.effect("remove never deletes a folder, nor asks for it", () =>
    Effect.gen(function* () {
      for (const answer of [multistatus(folder("/files/a/")), { status: 301, headers: { location: `${url}a/` } }]) {
        const { server, store } = yield* storeOn([answer])
        yield* store.remove("a")
        assert.deepStrictEqual(
          server.calls.map(({ method }) => String(method)),
          ["PROPFIND"]
        )
      }
      const { server, store } = yield* storeOn([multistatus(file("/files/a")), { status: 204 }])
      yield* store.remove("a")
      assert.strictEqual(server.calls[1]!.method, "DELETE")
    })
  )

  it("an address or timeout that is none throws at once, without showing the address", () => {
    for (const bad of ["nonsense", "ftp://user:secret@host/", "https://user:secret@host/?sig=secret"]) {
      assert.throws(() => WebDav.make({ url: bad }), /^WebDav: `url` (?!.*secret)/)
    }
    assert.throws(() => WebDav.make({ url, timeout: 0 }), /`timeout` is 0/)
    assert.throws(
      () => WebDav.make({ url: "https://u:p@host/", bearerToken: Redacted.make("t") }),
      /`bearerToken` and a user are both given/
    )
    const built = Effect.either(
      Effect.scoped(
        Layer.build(
          Layer.provide(WebDav.layerConfig({ url: Config.string("URL") }), [
            Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["URL", "nonsense"]]))),
            ScriptedHttpClient.layer([])
          ])
        )
      )
    )
    assert.isTrue(Either.isLeft(Effect.runSync(built)))
  })
})
