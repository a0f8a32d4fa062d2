import type * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import type { Change } from "effect-periscope"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import { ScriptedHttpClient } from "effect-periscope/testing"
import { Cause, Effect, Option, Redacted, Schema, TestClock } from "effect"

type Asked = ScriptedHttpClient.Call
type Answer = ScriptedHttpClient.Answer

/** A client whose answers are a function of the request. */
const answering = () => {
  let answer: (asked: Asked) => Answer = () => ({ json: [] })
  const { calls, layer } = ScriptedHttpClient.make((call) => answer(call))
  let from = 0
  return {
    calls,
    layer,
    set: (next: typeof answer) => void (answer = next),
    /** What was asked since the last time. */
    paths: () =>
      calls.slice(from, (from = calls.length)).map(({ path, query }) => path + (query.size > 0 ? `?${query}` : ""))
  }
}

const Item = Schema.Struct({ id: Schema.String, n: Schema.Number })
const items = (...ids: ReadonlyArray<string>) => ids.map((id) => ({ id, n: 1 }))
const plain = { url: "https://api.example.com/items", item: Item, key: (item: typeof Item.Type) => item.id }

const tell = (change: Change.Change<typeof Item.Type>) =>
  `${change._tag} ${change.key}${"value" in change ? ` ${change.value.n}` : ""}`

const watch = <E>(source: Source.Source<typeof Item.Type, E, HttpClient.HttpClient>) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
    yield* Effect.fork(watcher.runForEach((change) => Effect.sync(() => seen.push(tell(change)))))
    yield* TestClock.adjust(0)
    const failure = Effect.map(watcher.status.get, ({ phase }) =>
      phase._tag === "Backoff" ? String(Cause.squash(phase.error)) : phase._tag
    )
    return { watcher, failure, take: () => seen.splice(0) }
  })

const walk = TestClock.adjust("10 seconds")

/** Pages of two behind a Link header, by number. */
const byNumber =
  (all: () => ReadonlyArray<unknown>) =>
  ({ query }: Asked): Answer => {
    const page = Number(query.get("page") ?? 1)
    const isLast = all().length <= page * 2
    return {
      json: all().slice(page * 2 - 2, page * 2),
      headers: isLast ? {} : { link: `<?page=1>; rel="first", <?page=${page + 1}>; rel="next"; title="a, b"` }
    }
  }

describe("HttpSource.collection", () => {
  it.scoped("H10 reports Added, Modified and Removed for each item of the pages that Link headers lead to", () =>
    Effect.gen(function* () {
      const server = answering()
      let all = items("a", "b", "c", "d", "e")
      server.set(byNumber(() => all))
      const { take } = yield* Effect.provide(watch(HttpSource.collection(plain)), server.layer)
      assert.deepStrictEqual(take(), ["Added a 1", "Added b 1", "Added c 1", "Added d 1", "Added e 1"])
      assert.deepStrictEqual(server.paths(), ["/items", "/items?page=2", "/items?page=3"])
      all = [{ id: "b", n: 2 }, ...items("c", "d", "e", "f")]
      yield* walk
      assert.deepStrictEqual(take(), ["Modified b 2", "Added f 1"])
      yield* walk
      assert.deepStrictEqual(take(), ["Removed a"])
    })
  )

  it.scoped("H10 takes items and the next page from where the user says", () =>
    Effect.gen(function* () {
      const server = answering()
      const pages: Record<string, unknown> = {
        "": { data: { list: items("a") }, next: "/v2/items?after=a" },
        a: { data: { list: items("b") }, next: "https://API.example.com:443/v2/items?after=b#x" },
        b: { data: { list: items("c") }, next: "" }
      }
      server.set(({ query }) => ({ json: pages[query.get("after") ?? ""] }))
      const source = HttpSource.collection({
        ...plain,
        page: Schema.Struct({ data: Schema.Struct({ list: Schema.Array(Item) }), next: Schema.String }),
        items: ({ data }) => data.list,
        next: ({ next }) => next
      })
      const { failure, take } = yield* Effect.provide(watch(source), server.layer)
      assert.deepStrictEqual([take(), yield* failure], [["Added a 1", "Added b 1", "Added c 1"], "Live"])
      assert.deepStrictEqual(server.paths(), ["/items", "/v2/items?after=a", "/v2/items?after=b"])
    })
  )

  it.effect("H10 an incomplete walk removes nothing: bad status, body, item, link and circle on any page", () =>
    Effect.gen(function* () {
      const server = answering()
      const all = items("a", "b", "c", "d", "e", "f")
      const good = byNumber(() => all)
      server.set(good)
      const source = HttpSource.collection({ ...plain, maxBodyBytes: 1000 })
      const { poll, recover } = source.definition
      /** Polls until the walk ends or fails; a failure leaves the state that an engine goes on with. */
      const walkFrom = (before: unknown) =>
        Effect.gen(function* () {
          let state = before
          const changes: Array<string> = []
          while (true) {
            const polled = yield* Effect.either(poll(state, { committed: state, watcher: {} }))
            if (polled._tag === "Left") return { changes, state: recover(state, polled.left), failure: polled.left }
            changes.push(...polled.right.changes.map(tell))
            state = polled.right.state
            if (polled.right.more !== true) return { changes, state, failure: undefined }
          }
        }).pipe(Effect.provide(server.layer))
      const known = yield* walkFrom(source.definition.initial)
      assert.strictEqual(known.changes.length, 6)
      const bad = (page: string): ReadonlyArray<readonly [Answer, RegExp]> => [
        [{ status: 500 }, /answered 500/],
        [{ status: 404 }, /answered 404/],
        [{ status: 410 }, /answered 410/],
        [{ status: 403 }, /answered 403; check the credentials/],
        [{ status: 203, body: "" }, /not valid JSON/],
        [{ status: 304 }, /answered 304 to a request without validators/],
        [{ body: '[{"id":"a","n":1}' }, /not valid JSON/],
        [{ json: { error: "later" } }, /does not fit: expected ReadonlyArray/],
        [{ json: [{ id: "a", n: "1" }] }, /does not fit: expected number at \[0\]\["n"\]/],
        [{ json: [], headers: { link: '<?page=2>; rel="next", <' } }, /Link header that cannot be read/],
        [{ json: [], headers: { link: '<mailto:x@y>; rel="next"' } }, /no http or https address/],
        [{ json: [], headers: { link: '<//:::>; rel="next"' } }, /no http or https address/],
        [{ body: "x".repeat(1001) }, /more than 1000 bytes/],
        [{ json: [], headers: { link: `<?page=${page}>; rel=next` } }, /lead in a circle/]
      ]
      for (const page of ["1", "2", "3"]) {
        for (const [answer, message] of bad(page)) {
          server.set((asked) => ((asked.query.get("page") ?? "1") === page ? answer : good(asked)))
          const failed = yield* walkFrom(known.state)
          assert.match(String(failed.failure?.message), message, `page ${page}`)
          assert.deepStrictEqual(failed.changes, [])
          server.set(good)
          const after = yield* walkFrom(failed.state)
          assert.deepStrictEqual([after.changes, after.failure], [[], undefined], `page ${page} ${message}`)
        }
      }
    })
  )

  it.scoped("H10 a token that is refused on a later page starts the walk over", () =>
    Effect.gen(function* () {
      const server = answering()
      let isExpired = true
      const good = byNumber(() => items("a", "b", "c"))
      server.set((asked) => (asked.query.size > 0 && isExpired ? { status: 410 } : good(asked)))
      const { take } = yield* Effect.provide(watch(HttpSource.collection(plain)), server.layer)
      isExpired = false
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(server.paths(), ["/items", "/items?page=2", "/items", "/items?page=2"])
      assert.deepStrictEqual(take(), ["Added a 1", "Added b 1", "Added c 1"])
    })
  )

  it.scoped(
    "H10 an item that slips to the page before, as one goes, is not removed; believed at once it would be",
    () =>
      Effect.gen(function* () {
        for (const [confirmRemovals, told] of [
          [undefined, ["Removed a"]],
          [1, ["Removed c", "Added c 1", "Removed a"]]
        ] as const) {
          const server = answering()
          let all = items("a", "b", "c", "d", "e")
          let act = () => {}
          server.set((asked) => {
            const answer = byNumber(() => all)(asked)
            if (asked.query.size === 0) act()
            return answer
          })
          const source = HttpSource.collection({ ...plain, confirmRemovals })
          const { take } = yield* Effect.provide(watch(source), server.layer)
          take()
          // behind the first page, a goes: c is now on the first one, and the second one begins with d
          act = () => void (all = all.filter(({ id }) => id !== "a"))
          yield* walk
          act = () => {}
          yield* walk
          yield* walk
          assert.deepStrictEqual<ReadonlyArray<string>>(take(), told)
        }
      })
  )

  it.scoped(
    "H10 a list that grows behind its full first page is read on, whatever says that this page is unchanged",
    () =>
      Effect.gen(function* () {
        const counted = (_page: unknown, { headers, url }: HttpSource.PageResponse) =>
          headers["x-total"] === "3" && !url.includes("page") ? "?page=2" : undefined
        for (const [etag, next] of [
          [undefined, undefined],
          ['"of the items alone"', undefined],
          [undefined, counted]
        ] as const) {
          const server = answering()
          let all = items("a", "b")
          server.set((asked) => {
            const { headers, json } = byNumber(() => all)(asked)
            const isKnown = etag !== undefined && asked.headers["if-none-match"] === etag
            const tagged = asked.query.size > 0 || etag === undefined ? {} : { etag }
            return {
              status: isKnown ? 304 : 200,
              json,
              headers: { ...headers, ...tagged, "x-total": String(all.length) }
            }
          })
          const { failure, take } = yield* Effect.provide(
            watch(HttpSource.collection({ ...plain, next })),
            server.layer
          )
          yield* walk
          assert.deepStrictEqual(take(), ["Added a 1", "Added b 1"])
          all = items("a", "b", "c")
          yield* walk
          assert.deepStrictEqual([take(), yield* failure], [["Added c 1"], "Live"])
        }
      })
  )

  it.scoped("H2 H3 a list of one page is asked for with its validators, a 304 is a complete observation", () =>
    Effect.gen(function* () {
      const server = answering()
      let etag = '"1"'
      let list = items("a", "b")
      let answered: Array<number> = []
      server.set(({ headers }) => {
        const status = headers["if-none-match"] === etag ? 304 : 200
        answered.push(status)
        return { status, json: list, headers: { etag } }
      })
      const { take, watcher } = yield* Effect.provide(watch(HttpSource.collection(plain)), server.layer)
      yield* watcher.awaitSynced
      yield* walk
      yield* walk
      // another tag for the same list: taken, to be sent from now on
      etag = '"2"'
      yield* walk
      yield* walk
      assert.deepStrictEqual(
        [answered, take()],
        [
          [200, 304, 304, 200, 304],
          ["Added a 1", "Added b 1"]
        ]
      )
      answered = []
      etag = '"3"'
      list = items("a", "c")
      yield* walk
      assert.deepStrictEqual(take(), ["Added c 1", "Removed b"])
      yield* walk
      yield* walk
      assert.deepStrictEqual([answered, take()], [[200, 200, 304], []])
      // an equal weak tag is no change, whatever the bytes
      etag = 'W/"4"'
      list = items("a")
      yield* walk
      yield* walk
      assert.deepStrictEqual(take(), ["Removed c"])
      list = [{ id: "a", n: 7 }]
      server.set(() => ({ json: list, headers: { etag } }))
      yield* walk
      assert.deepStrictEqual(take(), [])
    })
  )

  it.scoped("H2 pages of several, and a page under removals that are held back, are asked for without validators", () =>
    Effect.gen(function* () {
      const server = answering()
      let all = items("a", "b", "c")
      const good = byNumber(() => all)
      server.set((asked) => {
        const answer = good(asked)
        return { ...answer, headers: { ...answer.headers, etag: `"${asked.query}${all.length}"` } }
      })
      const { take } = yield* Effect.provide(watch(HttpSource.collection(plain)), server.layer)
      yield* walk
      all = []
      for (let walks = 0; walks < 3; walks++) yield* walk
      yield* walk
      assert.strictEqual(take().length, 6)
      const conditional = server.calls.filter(({ headers }) => headers["if-none-match"] !== undefined)
      // two walks of two pages, three that found nothing, and one after the removal was believed
      assert.deepStrictEqual([server.calls.length, conditional.length], [8, 0])
    })
  )

  it.scoped("H5 asks for a list of one page in full after `revalidateAfter`", () =>
    Effect.gen(function* () {
      const server = answering()
      server.set(({ headers }) =>
        headers["if-none-match"] === '"1"' ? { status: 304 } : { json: items("a"), headers: { etag: '"1"' } }
      )
      const source = HttpSource.collection({ ...plain, revalidateAfter: "25 seconds" })
      yield* Effect.provide(watch(source), server.layer)
      yield* TestClock.adjust("60 seconds")
      const conditional = server.calls.map(({ headers }) => headers["if-none-match"] !== undefined)
      assert.deepStrictEqual(conditional, [false, true, true, false, true, true, false])
    })
  )

  it.scoped(
    "H6 H7 asks for each page with fresh credentials, once more after a 401, and keeps them from other origins",
    () =>
      Effect.gen(function* () {
        const server = answering()
        let token = 0
        server.set(({ headers, query, url }) => {
          const { host } = new URL(url)
          if (host === "api.example.com" && headers.authorization !== `Bearer ${token}`) return { status: 401 }
          if (host === "api.example.com" && query.size === 0) {
            return { json: items("a"), headers: { link: '<?page=2>; rel="next"' } }
          }
          if (host === "api.example.com") {
            return { json: items("b"), headers: { link: '<https://user:p@other.example/3?x=1>; rel="next"' } }
          }
          return { json: items("c") }
        })
        const source = HttpSource.collection({
          ...plain,
          bearerToken: Effect.sync(() => Redacted.make(String((token += 1) - (token === 1 ? 1 : 0)))),
          headers: { "x-key": Redacted.make("k"), "x-plain": "p" }
        })
        const { take } = yield* Effect.provide(watch(source), server.layer)
        assert.deepStrictEqual(take(), ["Added a 1", "Added b 1", "Added c 1"])
        const sent = server.calls.map(({ headers, url }) => [
          url,
          headers.authorization,
          headers["x-key"],
          headers["x-plain"]
        ])
        assert.deepStrictEqual(sent, [
          ["https://api.example.com/items", "Bearer 0", "k", "p"],
          ["https://api.example.com/items", "Bearer 2", "k", "p"],
          ["https://api.example.com/items?page=2", "Bearer 3", "k", "p"],
          ["https://other.example/3?x=1", undefined, undefined, "p"]
        ])
      })
  )

  it.effect("E3 goes on from its checkpoint, which holds items but no address", () =>
    Effect.gen(function* () {
      const server = answering()
      server.set(byNumber(() => items("a", "b", "c")))
      const once = (url: string) =>
        Effect.provide(Watcher.once(HttpSource.collection({ ...plain, url }), { checkpoint: "c" }), server.layer)
      const url = "https://user:PASSWORD@api.example.com/items?sig=QUERY"
      assert.strictEqual((yield* once(url)).length, 3)
      assert.strictEqual((yield* once(url)).length, 0)
      const other = yield* Effect.flip(once("https://api.example.com/items?sig=OTHER"))
      assert.strictEqual(other._tag === "CheckpointError" ? other.reason : other._tag, "OtherIdentity")
      const document = HttpSource.make({ url })
      const asDocument = yield* Effect.flip(Effect.provide(Watcher.once(document, { checkpoint: "c" }), server.layer))
      assert.strictEqual(asDocument._tag === "CheckpointError" ? asDocument.reason : asDocument._tag, "OtherIdentity")
      const { stored } = yield* Effect.scoped(
        Effect.flatMap(Checkpoints.Checkpoints, (checkpoints) => checkpoints.claim("c"))
      )
      const { blocks, head } = Option.getOrThrow(stored)
      const saved = head + [...blocks.values()].map((bytes) => new TextDecoder().decode(bytes)).join("")
      assert.isTrue(saved.includes("http-collection") && saved.includes('{"id":"c","n":1}'))
      for (const secret of ["PASSWORD", "QUERY", "user"]) assert.notInclude(saved, secret)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("reads large numbers with the user's parser", () =>
    Effect.gen(function* () {
      const server = answering()
      server.set(() => ({ body: '[{"id": 9007199254740993, "n": 1}, {"id": 9007199254740992, "n": 1}]' }))
      const parseJson = (text: string): unknown => JSON.parse(text.replaceAll(/"id": (\d+)/g, '"id": "$1"'))
      const { take } = yield* Effect.provide(watch(HttpSource.collection({ ...plain, parseJson })), server.layer)
      assert.deepStrictEqual(take(), ["Added 9007199254740992 1", "Added 9007199254740993 1"])
    })
  )

  it("refuses what cannot work with a sentence", () => {
    assert.throws(() => HttpSource.collection({ ...plain, url: "ftp://x/y" }), /only http/)
    assert.throws(() => HttpSource.collection({ ...plain, maxPages: 0 }), /`maxPages` is 0/)
    assert.throws(() => HttpSource.collection({ ...plain, confirmRemovals: 0 }), /`confirmRemovals` is 0/)
    assert.throws(() => HttpSource.collection({ ...plain, revalidateAfter: 0 }), /`revalidateAfter` is 0/)
  })

  it("has the value, error and requirements that its options say", () => {
    class Token extends Schema.TaggedError<Token>()("Token", {}) {}
    type Known = HttpSource.HttpSourceError | Source.ListingError
    const numbers = Schema.Struct({ id: Schema.NumberFromString })
    const url = "https://api.example.com"
    const simple = HttpSource.collection({ url, item: numbers, key: ({ id }) => String(id) })
    const nested = HttpSource.collection({
      url,
      page: Schema.Struct({ rows: Schema.Array(numbers) }),
      items: (page) => page.rows,
      item: numbers,
      key: ({ id }) => id.toFixed(),
      bearerToken: new Token()
    })
    expectTypeOf(simple).toEqualTypeOf<Source.Source<{ readonly id: number }, Known, HttpClient.HttpClient>>()
    expectTypeOf(nested).toEqualTypeOf<Source.Source<{ readonly id: number }, Known | Token, HttpClient.HttpClient>>()
    expectTypeOf<Extract<Known, { readonly isFatal: true }>>().toEqualTypeOf<never>()
    // @ts-expect-error a page of another shape needs to say where its items are
    const nowhere = () => HttpSource.collection({ url, page: Schema.Struct({}), item: numbers, key: () => "" })
    assert.isTrue([simple, nested].every(Source.isSource) && Option.isSome(Option.some(nowhere)))
  })
})
