/**
 * Goal: a frame is read as its schema says, what is unknown is kept, and what cannot be read keeps its id and little of its text (S4, S7).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import * as event from "../../src/socket/tapEvent.js"

const record = {
  id: 12345,
  type: "record",
  record: {
    live: true,
    rev: "3kb3fge5lm32x",
    did: "did:plc:abc123",
    collection: "app.bsky.feed.post",
    rkey: "3kb3fge5lm32x",
    action: "create",
    cid: "bafyreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
    record: { text: "Hello world!", $type: "app.bsky.feed.post", createdAt: "2024-10-07T12:00:00.000Z" }
  }
} as const

const identity = {
  id: 12346,
  type: "identity",
  identity: { did: "did:plc:abc123", handle: "alice.bsky.social", is_active: true, status: "active" }
} as const

const read = (json: unknown) => event.parse(JSON.stringify(json))

const refused = (json: unknown) =>
  Either.match(typeof json === "string" ? event.parse(json) : read(json), {
    onLeft: ({ id, message, reason }) => ({ id, message, reason }),
    onRight: () => assert.fail("was read")
  })

describe("tapEvent", () => {
  it("S4 reads the two examples of the server's own description", () => {
    assert.deepStrictEqual(read(record), Either.right(record))
    assert.deepStrictEqual(read(identity), Either.right(identity))
    assert.deepStrictEqual(event.parse(new TextEncoder().encode(JSON.stringify(identity))), Either.right(identity))
  })

  it("S4 takes a creation, an update and a deletion without record and cid", () => {
    for (const action of ["create", "update", "delete"] as const) {
      const { cid: _cid, record: _record, ...data } = { ...record.record, action }
      assert.deepStrictEqual(read({ ...record, record: data }), Either.right({ ...record, record: data }))
    }
  })

  it("S4 keeps fields that it does not know, also through the schema", () => {
    const json = { ...record, seq: 7, record: { ...record.record, blobs: [1], record: { nested: { deep: null } } } }
    assert.deepStrictEqual(read(json), Either.right(json))
    assert.deepStrictEqual<unknown>(Schema.decodeUnknownSync(event.TapEvent)(json), json)
    assert.deepStrictEqual<unknown>(Schema.encodeSync(event.TapEvent)(json), json)
  })

  it("S7 says what is wrong without saying what it holds", () => {
    assert.deepStrictEqual(refused({ ...record, type: "account" }), {
      id: 12345,
      message: `A frame of ${JSON.stringify({ ...record, type: "account" }).length} bytes is of an unknown type.`,
      reason: "UnknownType"
    })
    assert.match(
      refused({ ...record, record: { ...record.record, action: "rename" } }).message,
      /no valid `record.action`/
    )
    assert.match(refused({ ...record, record: null }).message, /no valid `record`/)
    assert.match(refused({ ...identity, identity: { ...identity.identity, did: "alice" } }).message, /`identity.did`/)
    assert.deepStrictEqual(refused("[]"), {
      id: undefined,
      message: "A frame of 2 bytes is no JSON object.",
      reason: "Invalid"
    })
    assert.strictEqual(refused({ ...record, id: -1 }).id, undefined)
    assert.strictEqual(refused({ ...record, id: "1" }).id, undefined)
  })

  it("S7 finds the id of a frame that is no JSON where a server writes it", () => {
    assert.deepStrictEqual(refused('{"id":77,"type":"record","rec'), {
      id: 77,
      message: "A frame of 29 bytes is no JSON.",
      reason: "NotJson"
    })
    assert.strictEqual(refused('{"type":"record","id":77').id, undefined)
    assert.strictEqual(refused('{"id":7777777777777777777777').id, undefined)
    assert.strictEqual(refused("").id, undefined)
  })

  it("S7 S8 does not cut an id out of another number, or out of one whose end it does not see", () => {
    const broken = ['12.5,"type":x}', '12-3,"type":x}', "12e3,x}", "012,x}", "-12,x}", "12", "9007199254740993,x}"]
    for (const text of broken) assert.strictEqual(refused(`{"id":${text}`).id, undefined, text)
    for (const text of ["12,x}", "12 \n, x}", "12}}"]) assert.strictEqual(refused(`{"id": ${text}`).id, 12, text)
    assert.strictEqual(refused('{"id":0,x}').id, 0)
    assert.strictEqual(refused('{"id":9007199254740991,x}').id, Number.MAX_SAFE_INTEGER)
  })

  it("S7 keeps at most 1 KiB of what it cannot read", () => {
    const failed = Either.flip(event.parse("€".repeat(1_000_000)))
    const { message, text } = Either.getOrThrow(failed)
    assert.strictEqual(message, "A frame of 3000000 bytes is no JSON.")
    assert.isAtMost(new TextEncoder().encode(text).length, 1026)
    assert.strictEqual(text.slice(0, 341), "€".repeat(341))
  })

  it("S4 agrees with the schema on every frame", () => {
    const odd = fc.constantFrom<unknown>(
      undefined,
      null,
      "",
      "x",
      "did:x:y",
      0,
      -1,
      1.5,
      2 ** 53,
      true,
      [],
      {},
      "delete"
    )
    const replaced = (fields: object) =>
      fc
        .record({ name: fc.constantFrom(...Object.keys(fields), "other"), value: odd, isChanged: fc.boolean() })
        .map(({ isChanged, name, value }) => (isChanged ? { ...fields, [name]: value } : fields))
    const frames = fc.oneof(
      replaced(record.record).chain((data) => replaced({ ...record, record: data })),
      replaced(identity.identity).chain((data) => replaced({ ...identity, identity: data })),
      odd
    )
    const is = Schema.is(event.TapEvent)
    let right = 0
    let left = 0
    fc.assert(
      fc.property(frames, (json) => {
        const text = JSON.stringify(json) ?? "undefined"
        const parsed = event.parse(text)
        if (Either.isRight(parsed)) right++
        else left++
        assert.strictEqual(Either.isRight(parsed), json !== undefined && is(JSON.parse(text)), text)
      }),
      { numRuns: 3000 }
    )
    assert.isAbove(Math.min(right, left), 300)
  })

  it("S8 takes two deliveries of a record as one by what they say, never by their number", () => {
    const again: event.RecordEvent = { ...record, id: 1 }
    assert.strictEqual(event.sameness(again), event.sameness(record))
    for (const change of [{ did: "did:plc:b" }, { collection: "c" }, { rkey: "k" }, { rev: "r" }, { cid: "c" }]) {
      assert.notStrictEqual(
        event.sameness({ ...record, record: { ...record.record, ...change } }),
        event.sameness(record)
      )
    }
    assert.notStrictEqual(
      event.sameness({ ...record, record: { ...record.record, action: "update" } }),
      event.sameness(record)
    )
    assert.strictEqual(event.sameness(identity), undefined)
  })

  it("S8 takes no two records as one, whatever their names hold", () => {
    const name = fc.string({ unit: fc.constantFrom("a", "\n", " ", "1"), maxLength: 4 })
    const data = fc.record({ did: name, collection: name, rkey: name, rev: name, cid: name }).map((names) => ({
      ...record,
      record: { ...record.record, ...names }
    }))
    const sameNames = (one: event.RecordData, other: event.RecordData): boolean =>
      (["did", "collection", "rkey", "rev", "cid"] as const).every((field) => one[field] === other[field])
    // the same text cut at another place: what chance alone would seldom bring
    const cuts = (at: number): event.RecordEvent => {
      const text = "a\na\na"
      return { ...record, record: { ...record.record, collection: text.slice(0, at), rkey: text.slice(at + 1) } }
    }
    assert.notStrictEqual(event.sameness(cuts(1)), event.sameness(cuts(3)))
    fc.assert(
      fc.property(data, data, (one, other) => {
        assert.strictEqual(event.sameness(one) === event.sameness(other), sameNames(one.record, other.record))
      }),
      { numRuns: 3000 }
    )
  })

  it("names an event by its at-uri or its DID", () => {
    assert.strictEqual(event.keyOf(record), "at://did:plc:abc123/app.bsky.feed.post/3kb3fge5lm32x")
    assert.strictEqual(event.keyOf(identity), "did:plc:abc123")
    assert.strictEqual(event.didOf(record), event.didOf(identity))
  })

  it("matches collections as the server does", () => {
    const filters = ["app.bsky.feed.post", "app.bsky.graph.*"]
    assert.deepStrictEqual(
      [
        "app.bsky.feed.post",
        "app.bsky.graph.follow",
        "app.bsky.feed.postgate",
        "app.bsky.graph",
        "app.bsky.graphs.x"
      ].map((collection) => event.matches(collection, filters)),
      [true, true, false, false, false]
    )
    assert.isTrue(event.matches("anything", ["*"]))
    assert.deepStrictEqual(
      ["app.bsky.feed.post", "app.bsky.*", "*", "app.*.post", "app.bsky.feed*", "", "a b", ".*"].map(
        (filter) => event.filterProblem(filter) === undefined
      ),
      [true, true, true, false, false, false, false, false]
    )
  })
})
