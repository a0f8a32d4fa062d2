/**
 * The events of a Tap server: their schemas, what tells them apart, and the reading of a frame.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/** What a server adds later is kept. */
const keepsAll = { parseOptions: { onExcessProperty: "preserve" } } as const

const Id = Schema.NonNegative.pipe(Schema.int(), Schema.lessThanOrEqualTo(Number.MAX_SAFE_INTEGER))
const Did = Schema.String.pipe(Schema.startsWith("did:"))

/**
 * A record that was created, updated or deleted.
 *
 * - `live`: it came over the firehose; else it is of a backfill, which is in no order.
 * - `record`: what it says now; missing in a deletion, and where the server could not read the record or it is empty.
 */
export interface RecordData {
  readonly did: string
  readonly rev: string
  readonly collection: string
  readonly rkey: string
  readonly action: "create" | "update" | "delete"
  readonly live: boolean
  readonly cid?: string | undefined
  readonly record?: { readonly [field: string]: unknown } | undefined
}

const RecordData = Schema.Struct({
  did: Did,
  rev: Schema.String,
  collection: Schema.String,
  rkey: Schema.String,
  action: Schema.Literal("create", "update", "delete"),
  live: Schema.Boolean,
  cid: Schema.optional(Schema.String),
  record: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
})

/** `id` is the number of a delivery: the server may give it to another event after a restart. */
export interface RecordEvent {
  readonly id: number
  readonly type: "record"
  readonly record: RecordData
}

export const RecordEvent: Schema.Schema<RecordEvent> = Schema.Struct({
  id: Id,
  type: Schema.Literal("record"),
  record: RecordData
}).annotations({ identifier: "TapRecordEvent", ...keepsAll })

/** An account as it is now. `status` is `active`, `takendown`, `suspended`, `deactivated`, `deleted`, or what a server adds later. */
export interface IdentityData {
  readonly did: string
  readonly handle: string
  readonly is_active: boolean
  readonly status: string
}

const IdentityData = Schema.Struct({
  did: Did,
  handle: Schema.String,
  is_active: Schema.Boolean,
  status: Schema.String
})

/** `id` is the number of a delivery: the server may give it to another event after a restart. */
export interface IdentityEvent {
  readonly id: number
  readonly type: "identity"
  readonly identity: IdentityData
}

export const IdentityEvent: Schema.Schema<IdentityEvent> = Schema.Struct({
  id: Id,
  type: Schema.Literal("identity"),
  identity: IdentityData
}).annotations({ identifier: "TapIdentityEvent", ...keepsAll })

export type TapEvent = RecordEvent | IdentityEvent

export const TapEvent: Schema.Schema<TapEvent> = Schema.Union(RecordEvent, IdentityEvent).annotations({
  identifier: "TapEvent",
  ...keepsAll
})

export class TapParseFailure extends Schema.TaggedError<TapParseFailure>("effect-periscope/TapParseFailure")(
  "TapParseFailure",
  {
    reason: Schema.Literal("NotJson", "UnknownType", "Invalid"),
    message: Schema.String,
    id: Schema.optional(Schema.Number),
    text: Schema.String
  }
) {}

export const didOf = (event: TapEvent): string => (event.type === "record" ? event.record.did : event.identity.did)

export const keyOf = (event: TapEvent): string => {
  if (event.type === "identity") return event.identity.did
  const { collection, did, rkey } = event.record
  return `at://${did}/${collection}/${rkey}`
}

/** What a record event is the same by when it is delivered again; an identity event has nothing of that kind. */
export const sameness = (event: TapEvent): string | undefined => {
  if (event.type === "identity") return undefined
  const { action, cid = "", collection, did, rev, rkey } = event.record
  // the lengths: a name may hold a line feed too
  const lengths = `${did.length} ${collection.length} ${rkey.length} ${rev.length}`
  return `${lengths} ${action}\n${did}\n${collection}\n${rkey}\n${rev}\n${cid}`
}

// ---------------------------------------------------------------- reading a frame

const maxTextBytes = 1024

/** The schemas take five times as long as the reading of the JSON; this says the same. */
export const parse = (frame: string | Uint8Array): Either.Either<TapEvent, TapParseFailure> => {
  const text = typeof frame === "string" ? frame : new TextDecoder().decode(frame)
  const json = Either.try((): unknown => JSON.parse(text))
  if (Either.isLeft(json)) {
    // servers write the id first; what follows shows that it is all of the number
    const id = Number(/^\s*\{\s*"id"\s*:\s*(0|[1-9]\d{0,15})\s*[,}]/.exec(text)?.[1] ?? "x")
    return Either.left(failure("NotJson", "is no JSON", text, id))
  }
  const event = json.right
  if (!Predicate.isRecord(event)) return Either.left(failure("Invalid", "is no JSON object", text, undefined))
  const { id, type } = event
  if (!isId(id)) return Either.left(failure("Invalid", "has no id", text, undefined))
  if (type !== "record" && type !== "identity") {
    return Either.left(failure("UnknownType", "is of an unknown type", text, id))
  }
  const lost = type === "record" ? lostInRecord(event["record"]) : lostInIdentity(event["identity"])
  return lost === undefined
    ? Either.right(event as unknown as TapEvent)
    : Either.left(failure("Invalid", `has no valid \`${lost === "" ? type : `${type}.${lost}`}\``, text, id))
}

const isId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0

const isText = Predicate.isString
const isDid = (value: unknown): boolean => typeof value === "string" && value.startsWith("did:")

/** The field that is not as it should be; `""`: the whole. */
const lostInRecord = (data: unknown): string | undefined => {
  if (!Predicate.isRecord(data)) return ""
  const { action, cid, collection, did, live, record, rev, rkey } = data
  if (!isDid(did)) return "did"
  if (!isText(rev)) return "rev"
  if (!isText(collection)) return "collection"
  if (!isText(rkey)) return "rkey"
  if (action !== "create" && action !== "update" && action !== "delete") return "action"
  if (typeof live !== "boolean") return "live"
  if (cid !== undefined && !isText(cid)) return "cid"
  return record === undefined || Predicate.isRecord(record) ? undefined : "record"
}

const lostInIdentity = (data: unknown): string | undefined => {
  if (!Predicate.isRecord(data)) return ""
  const { did, handle, is_active, status } = data
  if (!isDid(did)) return "did"
  if (!isText(handle)) return "handle"
  if (typeof is_active !== "boolean") return "is_active"
  return isText(status) ? undefined : "status"
}

const failure = (
  reason: TapParseFailure["reason"],
  what: string,
  text: string,
  id: number | undefined
): TapParseFailure => {
  const bytes = new TextEncoder().encode(text)
  return new TapParseFailure({
    reason,
    message: `A frame of ${bytes.length} bytes ${what}.`,
    id: isId(id) ? id : undefined,
    // decoded anew: a slice would keep the whole frame in memory
    text: new TextDecoder().decode(bytes.subarray(0, maxTextBytes))
  })
}

// ---------------------------------------------------------------- what is handed out

/** Whether a collection is meant by one of the filters: its name, or what it begins with and a `*`, as on the server. */
export const matches = (collection: string, filters: ReadonlyArray<string>): boolean =>
  filters.some((filter) => (filter.endsWith("*") ? collection.startsWith(filter.slice(0, -1)) : collection === filter))

/** What is wrong with a filter; nothing in most cases. */
export const filterProblem = (filter: string): string | undefined =>
  /^(\*|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*(\.\*)?)$/.test(filter)
    ? undefined
    : "is no collection; write one such as app.bsky.feed.post, or app.bsky.feed.*"
