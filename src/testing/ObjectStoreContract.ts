/**
 * What every object store has to keep, as one test suite for any test runner.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import assert from "node:assert/strict"
import type { ObjectMeta, ObjectPage, ObjectStore, ObjectStoreError } from "../objects/ObjectStore.js"
import type { Runner } from "./CheckpointsContract.js"
import type { NameClass } from "./objectNames.js"
import { longKey, namesOf } from "./objectNames.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Runner
} from "./CheckpointsContract.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  NameClass
} from "./objectNames.js"

/**
 * The store under test.
 *
 * - `make`: runs once a test and prepares an empty container.
 * - `missing`: the store of a container that is not there, if such a thing can be.
 * - `order`: what listings are sorted by; `"utf8"` is the order of the keys' UTF-8 bytes.
 * - `wrongToken`: what a page token that the store never gave leads to: the error `StaleToken`, or, where any text is a token,
 *   a page.
 * - `cannotHold`: names that the store refuses with `InvalidRequest` [it holds them all].
 * - `untried`: names that the server at hand breaks on, though the store could hold them [none].
 * - `pause`: how long to wait between two writes of one object, where only a coarse time tells them apart [none].
 * - `many`: how many objects the test of several full pages writes [1001].
 * - `timeoutMillis`: how long a test may take [60,000].
 *
 * @category models
 * @since 0.1.0
 */
export interface Subject {
  readonly name: string
  readonly make: Effect.Effect<Context.Tag.Service<ObjectStore>, unknown, Scope.Scope>
  readonly missing?: Effect.Effect<Context.Tag.Service<ObjectStore>, unknown, Scope.Scope> | undefined
  readonly order: "utf8" | "unspecified"
  readonly wrongToken: "StaleToken" | "page"
  readonly cannotHold?: ReadonlyArray<NameClass> | undefined
  readonly untried?: ReadonlyArray<NameClass> | undefined
  readonly pause?: Duration.DurationInput | undefined
  readonly many?: number | undefined
  readonly timeoutMillis?: number | undefined
}

type Store = Context.Tag.Service<ObjectStore>
type Test = (store: Store, subject: Subject) => Effect.Effect<void, unknown, Scope.Scope>
type Tests = ReadonlyArray<readonly [name: string, test: Test]>

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text)

const bytesOf = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 31 + seed * 17 + (index >> 8) * 7) & 255)

/** Sorts by UTF-8 bytes. */
const sorted = (keys: Iterable<string>): ReadonlyArray<string> =>
  Array.from(keys).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))

const keysOf = (objects: Iterable<ObjectMeta>): ReadonlyArray<string> => Array.from(objects, ({ key }) => key)

const refusal = <A>(effect: Effect.Effect<A, ObjectStoreError>) =>
  Effect.map(Effect.either(effect), (result) => {
    assert.ok(Either.isLeft(result), "expected an ObjectStoreError, but it succeeded")
    assert.equal(result.left._tag, "ObjectStoreError")
    assert.ok(result.left.message.length > 0, "an error needs a message")
    return result.left
  })

const reasonOf = <A>(effect: Effect.Effect<A, ObjectStoreError>) => Effect.map(refusal(effect), ({ reason }) => reason)

const read = (store: Store, key: string) =>
  Effect.map(Stream.runCollect(store.get(key)), (parts) => Buffer.concat(Chunk.toReadonlyArray(parts)))

const putAll = (store: Store, keys: Iterable<string>) =>
  Effect.forEach(keys, (key) => store.put(key, key), { concurrency: 8, discard: true })

/** Lists page by page, as a poller does, and holds each page to its bound. */
const pages = (store: Store, options: { readonly prefix?: string; readonly maxKeys?: number } = {}) =>
  Effect.gen(function* () {
    const all: Array<ObjectPage> = []
    let token: string | undefined
    do {
      const page: ObjectPage = yield* store.listPage({ ...options, token })
      assert.ok(page.objects.length <= (options.maxKeys ?? 1000), "a page holds more than `maxKeys`")
      all.push(page)
      token = page.next
      assert.ok(all.length < 10_000, "the listing does not end")
    } while (token !== undefined)
    return all
  })

const walk = (store: Store, options?: { readonly prefix?: string; readonly maxKeys?: number }) =>
  Effect.map(pages(store, options), (all) => all.flatMap(({ objects }) => objects))

/** Compares a walk with what it should hold, and with the order that the store promises. */
const isListing = (found: ReadonlyArray<string>, expected: Iterable<string>, { order }: Subject): void => {
  const wanted = sorted(expected)
  assert.deepEqual(order === "utf8" ? found : sorted(found), wanted)
}

/** What tells one state of an object from the next one. */
const tokenOf = ({ etag, lastModifiedMillis, size, version }: ObjectMeta): string =>
  etag ?? version ?? `${size} ${lastModifiedMillis}`

/** Whether two answers speak of the same state; one may leave out what the other one says, and times may be cut to seconds. */
const agree = (a: ObjectMeta, b: ObjectMeta): void => {
  assert.equal(a.key, b.key)
  assert.equal(a.size, b.size, `two sizes of ${JSON.stringify(a.key)}`)
  if (a.etag !== undefined && b.etag !== undefined) assert.equal(a.etag, b.etag)
  if (a.version !== undefined && b.version !== undefined) assert.equal(a.version, b.version)
  const [one, other] = [a.lastModifiedMillis, b.lastModifiedMillis]
  if (one !== undefined && other !== undefined) {
    assert.ok(Math.abs(one - other) < 1000, `two times of ${JSON.stringify(a.key)}: ${one} and ${other}`)
  }
}

const found = (store: Store, key: string) =>
  Effect.map(walk(store), (objects) => {
    const meta = objects.filter((object) => object.key === key)
    assert.equal(meta.length, 1, `${JSON.stringify(key)} is listed ${meta.length} times`)
    return meta[0]!
  })

const objects: Tests = [
  [
    "O1 an object comes back byte for byte: empty, text, all bytes, 1 MiB",
    (store) =>
      Effect.gen(function* () {
        const contents: ReadonlyArray<readonly [key: string, content: Uint8Array | string]> = [
          ["empty", new Uint8Array()],
          ["text", "ä€😀\ufeff\r\n\u0000"],
          ["bytes", Uint8Array.from({ length: 256 }, (_, index) => index)],
          ["view", bytesOf(100, 1).subarray(10, 20)],
          ["large", bytesOf(1024 * 1024, 2)]
        ]
        for (const [key, content] of contents) {
          const bytes = typeof content === "string" ? utf8(content) : content
          const put = yield* store.put(key, content)
          assert.deepEqual([put.key, put.size], [key, bytes.length])
          const got = yield* read(store, key)
          assert.ok(Buffer.compare(got, bytes) === 0, `${key} came back changed, ${got.length} bytes`)
          agree(yield* store.head(key), put)
          agree(yield* found(store, key), put)
        }
        assert.equal((yield* walk(store)).length, contents.length)
      })
  ],
  [
    "O1 an array that the caller changes afterwards does not change the object",
    (store) =>
      Effect.gen(function* () {
        const bytes = utf8("before")
        yield* store.put("alias", bytes)
        bytes.fill(0)
        yield* Stream.runForEach(store.get("alias"), (part) => Effect.sync(() => void part.fill(0)))
        assert.equal((yield* read(store, "alias")).toString(), "before")
      })
  ],
  [
    "O1 head and listing say the same, and other content of the same size is another state",
    (store, { pause = 0 }) =>
      Effect.gen(function* () {
        const seen = new Set<string>()
        for (const content of ["one", "two", "six"]) {
          const put = yield* store.put("kept", content)
          const head = yield* store.head("kept")
          const listed = yield* found(store, "kept")
          agree(put, head)
          agree(head, listed)
          agree(put, listed)
          const { etag, lastModifiedMillis, version } = listed
          assert.ok((etag ?? version ?? lastModifiedMillis) !== undefined, "nothing tells one state from the next one")
          seen.add(tokenOf(listed))
          assert.equal((yield* read(store, "kept")).toString(), content)
          yield* Effect.sleep(pause)
        }
        assert.equal(seen.size, 3, "an overwrite cannot be seen in the listing")
      })
  ],
  [
    "O1 what nobody writes keeps its state",
    (store) =>
      Effect.gen(function* () {
        yield* putAll(store, ["a", "b", "c"])
        const before = (yield* walk(store)).map(tokenOf)
        yield* store.put("d", "d")
        yield* read(store, "a")
        yield* store.remove("d")
        assert.deepEqual((yield* walk(store)).map(tokenOf), before)
      })
  ],
  [
    "a removed object is gone, and removing one that is not there is no error",
    (store, subject) =>
      Effect.gen(function* () {
        yield* putAll(store, ["a", "b", "folder/c"])
        for (const key of ["b", "b", "never", "never/was", "folder/c"]) yield* store.remove(key)
        for (const key of ["b", "folder/c"]) {
          assert.equal(yield* reasonOf(store.head(key)), "NotFound")
          assert.equal(yield* reasonOf(read(store, key)), "NotFound")
        }
        isListing(keysOf(yield* walk(store)), ["a"], subject)
        yield* store.put("b", "again")
        assert.equal((yield* read(store, "b")).toString(), "again")
      })
  ],
  [
    "a key that is not there is NotFound, also one that another key begins with",
    (store, { cannotHold = [] }) =>
      Effect.gen(function* () {
        yield* putAll(store, ["folder/a", "file"])
        const others = cannotHold.includes("lookalikes") ? [] : ["Folder/a", "folder/A"]
        for (const key of ["a", "folder", "fil", "files", ...others]) {
          const head = yield* refusal(store.head(key))
          const get = yield* refusal(read(store, key))
          assert.deepEqual([head.reason, head.operation, head.key], ["NotFound", "head", key])
          assert.deepEqual([get.reason, get.operation, get.key], ["NotFound", "get", key])
          assert.deepEqual([head.store, head.isRetryable], [store.identity, false])
        }
      })
  ],
  [
    "a download that is given up half way is over at once, and the next one is whole",
    (store) =>
      Effect.gen(function* () {
        const bytes = bytesOf(4 * 1024 * 1024, 3)
        yield* store.put("large", bytes)
        for (let n = 0; n < 3; n++) {
          const first = yield* Stream.runHead(store.get("large"))
          assert.equal(first._tag, "Some")
          const started = yield* Deferred.make<void>()
          const reading = yield* Effect.fork(
            Stream.runForEach(store.get("large"), () =>
              Effect.zipRight(Deferred.succeed(started, undefined), Effect.never)
            )
          )
          yield* Deferred.await(started)
          yield* Effect.timeoutFail(Fiber.interrupt(reading), {
            duration: "5 seconds",
            onTimeout: () => new assert.AssertionError({ message: "the interrupted download goes on" })
          })
        }
        assert.ok(Buffer.compare(yield* read(store, "large"), bytes) === 0, "the download behind it is not whole")
      })
  ]
]

const listings: Tests = [
  [
    "O5 an empty store is one empty page, the last one",
    (store) =>
      Effect.gen(function* () {
        const { next, objects } = yield* store.listPage()
        assert.deepEqual([objects, next], [[], undefined])
        assert.equal(yield* Stream.runCount(store.list()), 0)
      })
  ],
  [
    "O5 more objects than a page can hold are all there, once, in order",
    (store, subject) =>
      Effect.gen(function* () {
        // half of them in folders whose names sort between those of the others
        const keys = Array.from({ length: subject.many ?? 1001 }, (_, n) =>
          n % 2 === 0 ? `k${n % 7}-${n}` : `k${n % 7}/${n % 3}/${n}`
        )
        yield* putAll(store, keys)
        isListing(keysOf(yield* walk(store)), keys, subject)
        isListing(keysOf(yield* walk(store, { maxKeys: 97 })), keys, subject)
        isListing(keysOf(yield* Stream.runCollect(store.list({ maxKeys: 250 }))), keys, subject)
        const prefix = "k3/1"
        const below = keys.filter((key) => key.startsWith(prefix))
        assert.ok(below.length > 0)
        isListing(keysOf(yield* walk(store, { prefix, maxKeys: 10 })), below, subject)
      })
  ],
  [
    "O5 pages of every size hold the same objects, and a token can be used twice",
    (store, subject) =>
      Effect.gen(function* () {
        const keys = ["a", "a-b", "a.b", "aa", "b/c", "b/c-d/e", "b/c.d", "b0", "ä", "\uffee", "\u{1f600}"]
        yield* putAll(store, keys)
        const whole = yield* walk(store)
        for (let maxKeys = 1; maxKeys <= keys.length + 1; maxKeys++) {
          const listed = yield* walk(store, { maxKeys })
          isListing(keysOf(listed), keys, subject)
          assert.deepEqual(sorted(listed.map(tokenOf)), sorted(whole.map(tokenOf)))
        }
        const { next } = yield* store.listPage({ maxKeys: 4 })
        const second = keysOf((yield* store.listPage({ maxKeys: 4, token: next })).objects)
        assert.deepEqual(keysOf((yield* store.listPage({ maxKeys: 4, token: next })).objects), second)
      })
  ],
  [
    "O4 a prefix is text: part of a name, a whole key, a folder, odd characters, or nothing",
    (store, subject) =>
      Effect.gen(function* () {
        const keys = ["p", "pa", "p-q/x", "p-q/y z", "p+q", "p%2Fq", "pé/ü%20 &=?#/x", "pé/ü%20 &=?#/y", "P", "q/p"]
        yield* putAll(store, keys)
        const prefixes = ["", "p", "pa", "p-", "p-q", "p-q/", "p-q/y", "p+", "p%", "p%2F", "p/", "pé", "pé/ü%20 &=?#/"]
        for (const prefix of [...prefixes, "e", "x", "q/p", "q/p/", "nothing/at/all", "../", "/", "p-q//"]) {
          const expected = keys.filter((key) => key.startsWith(prefix))
          isListing(keysOf(yield* walk(store, { prefix })), expected, subject)
          isListing(keysOf(yield* walk(store, { prefix, maxKeys: 1 })), expected, subject)
          isListing(keysOf(yield* Stream.runCollect(store.list({ prefix, maxKeys: 2 }))), expected, subject)
        }
      })
  ],
  [
    "O5 what is there throughout is listed once, whatever comes and goes meanwhile",
    (store) =>
      Effect.gen(function* () {
        const stays = Array.from({ length: 30 }, (_, n) => `s${String(n).padStart(2, "0")}${n % 3 === 0 ? "/x" : ""}`)
        const goes = stays.map((key) => `${key}-goes`)
        yield* putAll(store, [...stays, ...goes])
        for (const maxKeys of [1, 7]) {
          const listed: Array<string> = []
          let token: string | undefined
          let n = 0
          do {
            const page: ObjectPage = yield* store.listPage({ maxKeys, token })
            listed.push(...keysOf(page.objects))
            token = page.next
            // before, at and behind the place that the listing has come to
            const last = page.objects[page.objects.length - 1]?.key
            if (last !== undefined && goes.includes(last)) yield* store.remove(last)
            yield* store.remove(goes[(n * 7) % goes.length]!)
            yield* store.put(`s${String(n % 30).padStart(2, "0")}-comes-${maxKeys}`, "new")
            n++
            assert.ok(n < 1000, "the listing does not end")
          } while (token !== undefined)
          for (const key of stays) {
            const times = listed.filter((other) => other === key).length
            assert.equal(times, 1, `${key} was there throughout and is listed ${times} times`)
          }
          assert.equal(new Set(listed).size, listed.length, "an object is listed twice")
        }
      })
  ],
  [
    "O5 a token that the store did not give is refused, or is the name of a place",
    (store, { wrongToken }) =>
      Effect.gen(function* () {
        yield* putAll(store, ["a", "b", "c"])
        const token = "no token of ours"
        if (wrongToken === "StaleToken") {
          const error = yield* refusal(store.listPage({ token }))
          assert.deepEqual([error.reason, error.operation, error.isRetryable], ["StaleToken", "listPage", true])
        } else {
          const { objects } = yield* store.listPage({ token })
          assert.ok(keysOf(objects).every((key) => ["a", "b", "c"].includes(key)))
        }
        assert.equal((yield* walk(store)).length, 3)
      })
  ],
  [
    "no page is asked for with a bound that is none",
    (store) =>
      Effect.gen(function* () {
        yield* store.put("a", "a")
        for (const maxKeys of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
          assert.equal(yield* reasonOf(store.listPage({ maxKeys })), "InvalidRequest")
        }
      })
  ]
]

const oddNames: Tests = [
  [
    "O6 names of every script and character come back as they were put, each its own object",
    (store, subject) =>
      Effect.gen(function* () {
        const { held } = namesOf(subject.cannotHold ?? [], subject.untried)
        yield* Effect.forEach(held, (key) => store.put(key, `of ${key}`), { concurrency: 4, discard: true })
        isListing(keysOf(yield* walk(store)), held, subject)
        isListing(keysOf(yield* walk(store, { maxKeys: 3 })), held, subject)
        for (const key of held) {
          const content = `of ${key}`
          assert.equal((yield* read(store, key)).toString(), content)
          const head = yield* store.head(key)
          assert.deepEqual([head.key, head.size], [key, utf8(content).length])
          const starting = held.filter((other) => other.startsWith(key))
          isListing(keysOf(yield* walk(store, { prefix: key })), starting, subject)
        }
        for (const [n, key] of held.entries()) {
          yield* store.remove(key)
          if (n % 10 === 0) isListing(keysOf(yield* walk(store)), held.slice(n + 1), subject)
        }
        assert.deepEqual(keysOf(yield* walk(store)), [])
      })
  ],
  [
    "O6 a name that the store cannot hold is refused, not changed into another one",
    (store, subject) =>
      Effect.gen(function* () {
        yield* putAll(store, ["a", "b/a"])
        for (const key of [...namesOf(subject.cannotHold ?? [], subject.untried).refused, "", "\ud800", "a\udfff"]) {
          const put = yield* refusal(store.put(key, "x"))
          assert.deepEqual([put.reason, put.operation], ["InvalidRequest", "put"], JSON.stringify(key))
          for (const operation of [store.head(key), Stream.runDrain(store.get(key))]) {
            const reason = yield* reasonOf<unknown>(operation)
            assert.ok(reason === "InvalidRequest" || reason === "NotFound", `${JSON.stringify(key)}: ${reason}`)
          }
          const removed = yield* Effect.either(store.remove(key))
          if (Either.isLeft(removed)) assert.equal(removed.left.reason, "InvalidRequest")
          isListing(keysOf(yield* walk(store)), ["a", "b/a"], subject)
        }
        assert.equal((yield* read(store, "a")).toString(), "a")
      })
  ],
  [
    "O6 a key of 1024 bytes is held",
    (store, subject) =>
      Effect.gen(function* () {
        const keys = [longKey("a"), longKey("b"), longKey("é")]
        for (const key of keys) {
          assert.equal(utf8(key).length, 1024)
          yield* store.put(key, key)
          assert.equal((yield* read(store, key)).toString(), key)
        }
        isListing(keysOf(yield* walk(store, { maxKeys: 1 })), keys, subject)
      })
  ]
]

const missingContainers: Tests = [
  [
    "O2 a container that is not there is an error of every operation, never an empty listing",
    (missing) =>
      Effect.gen(function* () {
        const operations: ReadonlyArray<readonly [string, Effect.Effect<unknown, ObjectStoreError>]> = [
          ["listPage", missing.listPage()],
          ["listPage", missing.listPage({ prefix: "folder/", maxKeys: 1 })],
          ["listPage", Stream.runDrain(missing.list())],
          ["head", missing.head("a")],
          ["get", read(missing, "a")],
          ["put", missing.put("a", "a")],
          ["put", missing.put("folder/a", "a")],
          ["remove", missing.remove("a")],
          ["listPage", missing.listPage()]
        ]
        for (const [operation, effect] of operations) {
          const error = yield* refusal(effect)
          assert.deepEqual([error.reason, error.operation], ["MissingContainer", operation])
          assert.deepEqual([error.store, error.isRetryable], [missing.identity, false])
        }
      })
  ]
]

/**
 * Declares the tests of one store.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Memory } from "effect-periscope/objects"
 * import { suite } from "effect-periscope/testing/ObjectStoreContract"
 * import { describe, it } from "vitest"
 *
 * suite({ describe, it }, {
 *   name: "memory",
 *   order: "utf8",
 *   wrongToken: "StaleToken",
 *   make: Effect.map(Memory.make(), (store) => (store))
 * })
 * ```
 *
 * @category tests
 * @since 0.1.0
 */
export const suite = ({ describe, it }: Runner, subject: Subject): void => {
  const declare = (tests: Tests, make: Subject["make"]) => {
    for (const [title, test] of tests) {
      const run = Effect.scoped(Effect.flatMap(make, (store) => test(store, subject)))
      it(title, () => Effect.runPromise(run), subject.timeoutMillis ?? 60_000)
    }
  }
  describe(`ObjectStore contract: ${subject.name}`, () => {
    declare(objects, subject.make)
    declare(listings, subject.make)
    declare(oddNames, subject.make)
    if (subject.missing !== undefined) declare(missingContainers, subject.missing)
  })
}
