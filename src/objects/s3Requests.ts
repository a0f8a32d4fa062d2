/**
 * Signed requests to one bucket. What an answer says is wrong, the region, the clock, the credentials, is put right once a call
 * and kept for the next one.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as cloudRequest from "./cloudRequest.js"
import type { ObjectStoreError } from "./ObjectStore.js"
import type { Address, KeyPath, Place } from "./s3Address.js"
import { keyPath } from "./s3Address.js"
import type { Correction } from "./s3Answers.js"
import * as s3Answers from "./s3Answers.js"
import type { KeyRing } from "./s3Keys.js"
import type { Keys } from "./s3Signing.js"
import * as s3Signing from "./s3Signing.js"

export interface Ask extends cloudRequest.Target {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE"
  readonly query?: Readonly<Record<string, string>> | undefined
  /** Headers to sign and send. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  readonly content?: Uint8Array | undefined
}

/** Why there are no credentials. */
export interface NoKeys {
  readonly reason: ObjectStoreError["reason"]
  readonly message: string
}

export interface Settings {
  readonly address: Address
  readonly region: string
  /** None: requests are not signed. */
  readonly keys: KeyRing<NoKeys> | undefined
}

export interface Requests {
  /** The whole answer, which is a success. */
  readonly send: (ask: Ask) => Effect.Effect<cloudRequest.Received, ObjectStoreError>
  /** The answer from its head on, which is that of a success. */
  readonly open: (ask: Ask) => Effect.Effect<cloudRequest.Opened, ObjectStoreError, Scope.Scope>
  /** One attempt, whatever comes. */
  readonly attempt: (ask: Ask) => Effect.Effect<cloudRequest.Received, ObjectStoreError>
  /** Fails as an answer that is no success says. */
  readonly fail: (ask: Ask, answer: cloudRequest.Received) => Effect.Effect<never, ObjectStoreError>
}

/** Headers that say who asks. */
export const secretHeaders: ReadonlyArray<string> = ["authorization", "x-amz-security-token"]

/** How a request was made: what an answer may correct. */
interface Signed {
  readonly request: cloudRequest.Request
  readonly keys: Keys | undefined
  readonly region: string
}

const emptyHash = s3Signing.sha256("")

export const make = (transport: cloudRequest.Transport, settings: Settings): Requests => {
  const { address } = settings
  const signer = new s3Signing.Signer()
  let region = settings.region
  let place: Place = address.place(region)
  /** The server's clock minus ours. */
  let aheadMillis = 0

  const sign = Effect.fnUntraced(function* (ask: Ask) {
    const keys =
      settings.keys === undefined
        ? undefined
        : yield* Effect.mapError(settings.keys.current, ({ message, reason }) =>
            transport.fail(ask, reason, `has no credentials. ${message}`)
          )
    const nowMillis = yield* Clock.currentTimeMillis
    const path = yield* pathOf(ask)
    const { content, headers = {}, method, query = {} } = ask
    const search = s3Signing.encodeQuery(query)
    const request: cloudRequest.Request = {
      operation: ask.operation,
      key: ask.key,
      method,
      url: place.origin + path.sent + (search === "" ? "" : `?${search}`),
      content,
      headers: { ...cloudRequest.standardHeaders, ...headers }
    }
    if (keys === undefined) return { request, keys, region }
    const payload = content === undefined ? emptyHash : s3Signing.sha256(content)
    const signed = signer.sign(
      { method, host: place.host, path: path.signed, query: search, headers, payload },
      keys,
      region,
      nowMillis + aheadMillis
    )
    return { request: { ...request, headers: { ...request.headers, ...signed } }, keys, region }
  })

  const pathOf = (ask: Ask): Effect.Effect<KeyPath, ObjectStoreError> => {
    const { key } = ask
    if (key === undefined) return Effect.succeed({ signed: place.base, sent: place.base })
    const path = keyPath(place, key)
    return path === undefined
      ? Effect.fail(
          transport.fail(ask, "InvalidRequest", `cannot be asked: no address has the path ${JSON.stringify(key)}.`)
        )
      : Effect.succeed(path)
  }

  /** Puts right what can be put right; gives false where it cannot. */
  const correct = (
    ask: Ask,
    { keys: used }: Signed,
    correction: Correction
  ): Effect.Effect<boolean, ObjectStoreError> => {
    switch (correction._tag) {
      case "Region":
        region = correction.region
        place = address.place(region)
        return Effect.succeed(true)
      case "Clock":
        return Effect.map(Clock.currentTimeMillis, (nowMillis) => {
          aheadMillis = correction.serverMillis - nowMillis
          return true
        })
      case "Credentials": {
        const { keys } = settings
        if (keys === undefined || used === undefined || !keys.isRenewable) return Effect.succeed(false)
        return Effect.as(
          Effect.mapError(keys.replace(used), ({ message, reason }) =>
            transport.fail(ask, reason, `has no credentials. ${message}`)
          ),
          true
        )
      }
    }
  }

  const fail: Requests["fail"] = (ask, answer) => {
    const said = s3Answers.said(answer)
    const problem = s3Answers.problemOf(ask, answer, said, ask.query?.["continuation-token"] !== undefined)
    return problem === undefined
      ? cloudRequest.otherStatus(transport, ask, answer, cloudRequest.answered(answer.status, said.code))
      : Effect.fail(transport.fail(ask, problem.reason, `${problem.detail}.`, { status: answer.status }))
  }

  const succeed = <A extends cloudRequest.Opened | cloudRequest.Received, R>(
    ask: Ask,
    make: (request: cloudRequest.Request) => Effect.Effect<A, ObjectStoreError, R>
  ): Effect.Effect<A, ObjectStoreError, R> =>
    Effect.gen(function* () {
      const tried = new Set<Correction["_tag"]>()
      while (true) {
        const signed = yield* sign(ask)
        const answer = yield* make(signed.request)
        if (cloudRequest.isSuccess(answer.status)) return answer
        const received = answer as cloudRequest.Received
        const used = { region: signed.region, isAmazon: address.isAmazon }
        const correction = s3Answers.correction(received, s3Answers.said(received), used)
        const isNew = correction !== undefined && !tried.has(correction._tag)
        if (!isNew || !(yield* correct(ask, signed, correction))) return yield* fail(ask, received)
        tried.add(correction._tag)
      }
    })

  return {
    fail,
    attempt: (ask) => Effect.flatMap(sign(ask), ({ request }) => transport.send(request)),
    send: (ask) => succeed(ask, transport.send),
    open: (ask) => succeed(ask, transport.open) as Effect.Effect<cloudRequest.Opened, ObjectStoreError, Scope.Scope>
  }
}
