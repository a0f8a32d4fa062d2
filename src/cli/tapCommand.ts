/**
 * Runs `periscope tap repos add|remove|info|resolve|stats`: answers on stdout, or one sentence on stderr.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as TapClient from "../socket/TapClient.js"
import { inOptions } from "./logger.js"
import type { OutputFailed, Screen } from "./screen.js"
import * as stdin from "./stdin.js"
import { CannotOpen } from "./stores.js"
import type { TapPlan } from "./tapPlan.js"
import { clean, shown } from "./text.js"
import { object } from "./value.js"

type Client = Context.Tag.Service<typeof TapClient.TapClient>
type Failure = CannotOpen | OutputFailed | TapClient.TapClientError

/** What is wrong with the DIDs among the arguments. Those on stdin are looked at when they are read. */
export const problemOf = ({ action, dids }: TapPlan): string | undefined => {
  const wrong = dids === "stdin" ? undefined : dids.find((did) => !TapClient.isDid(did))
  return wrong === undefined
    ? undefined
    : `periscope tap repos ${action} takes DIDs, such as did:plc:ewvi7nxzyoun6zhxrhs64oiz, and ${JSON.stringify(shown(wrong))} is none`
}

/** Runs it. Gives the exit code. */
export const run = (asked: TapPlan, screen: Screen): Effect.Effect<number, never, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const dids = asked.dids === "stdin" ? yield* linesOfStdin : asked.dids
    const { password, target, timeoutMillis: timeout } = asked
    const client = yield* TapClient.make({ url: Redacted.value(target.address.url), password, timeout })
    yield* act(client, asked.action, dids, (line) => screen.write(`${line}\n`))
    return 0
  }).pipe(
    Effect.catchAllCause((cause: Cause.Cause<Failure>) =>
      Effect.sync(() => {
        const error = Cause.squash(cause)
        if (Predicate.isTagged(error, "OutputFailed") && (error as OutputFailed).isClosed) return 0
        const message = Predicate.hasProperty(error, "message") ? String(error.message) : String(error)
        const detail = asked.logLevel === "debug" ? `${Cause.pretty(cause, { renderErrorCause: true })}\n` : ""
        // the client names the server by the address that it asks
        const said = message.replace(/^https?:\/\/\S+: /, "")
        const sentence = clean(`${asked.target.name}: ${inOptions(said).replace(/[.]$/, "")}.`).replace(/[?]\.$/, "?")
        screen.note(`periscope: ${sentence}\n${detail}`)
        return 1
      })
    )
  )

const act = (
  client: Client,
  action: TapPlan["action"],
  dids: ReadonlyArray<string>,
  print: (line: string) => Effect.Effect<void, OutputFailed>
): Effect.Effect<void, Failure> => {
  switch (action) {
    case "add":
      return Effect.zipRight(client.addRepos(dids), print(object([["added", String(dids.length)]])))
    case "remove":
      return Effect.zipRight(client.removeRepos(dids), print(object([["removed", String(dids.length)]])))
    case "info":
      return each(dids, client.info, "the server does not follow", print)
    case "resolve":
      return each(dids, client.resolve, "there is no account", print)
    case "stats":
      return Effect.flatMap(client.stats, ({ firehose, listRepos, outboxBuffer, records, repos, resyncBuffer }) =>
        print(
          JSON.stringify({
            ...{ repos, records, outboxBuffer, resyncBuffer },
            firehose: Option.getOrUndefined(firehose),
            listRepos: Option.getOrUndefined(listRepos)
          })
        )
      )
  }
}

/** A line for each that there is; those that there are not are named in the end. */
const each = <A>(
  dids: ReadonlyArray<string>,
  look: (did: string) => Effect.Effect<Option.Option<A>, TapClient.TapClientError>,
  missing: string,
  print: (line: string) => Effect.Effect<void, OutputFailed>
): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const lost: Array<string> = []
    for (const did of dids) {
      const found = yield* look(did)
      if (Option.isSome(found)) yield* print(JSON.stringify(found.value))
      else lost.push(did)
    }
    if (lost.length > 0) {
      const more = lost.length > 3 ? ` and ${lost.length - 3} more` : ""
      yield* Effect.fail(new CannotOpen(`${missing} ${lost.slice(0, 3).join(", ")}${more}`))
    }
  })

const linesOfStdin: Effect.Effect<ReadonlyArray<string>, CannotOpen> = Effect.map(
  stdin.text("nothing was done"),
  (text) =>
    text
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "")
)
