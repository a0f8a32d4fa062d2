/**
 * The options of the command line: one table that parsing and `--help` are made of.
 */
import * as Either from "effect/Either"
import { parseArgs } from "node:util"

interface Option {
  /** What its value is called in the help; none: a switch. */
  readonly value?: string
  readonly help: string
  readonly repeats?: true
  readonly short?: string
  /** The commands that it is for [watch and once]. */
  readonly of?: ReadonlyArray<Command>
}

/** What periscope can be told to do. */
export type Command = "watch" | "once" | "log append" | "log head" | "log prune" | "tap repos"

const commands: ReadonlyArray<Command> = ["watch", "once", "log append", "log head", "log prune", "tap repos"]

const table = {
  interval: { value: "30s", help: "pause between polls [30s]" },
  "max-backoff": { value: "16m", help: "longest wait after failed polls [32 x interval]" },
  "give-up-after": { value: "1h", help: "longest outage; then the source has failed [never]" },
  jitter: { value: "0.1", help: "each backoff wait is up to that fraction shorter [0]" },
  initial: { value: "emit|suppress", help: "whether what is there at first sight is Added [emit]" },
  state: { value: "DIR", help: "keep checkpoints there and resume from them [in memory]" },
  reset: { value: "NAME", help: "forget the checkpoint of that source first", repeats: true },
  approve: { value: "NAME", help: "let the removals pass that its checkpoint holds back", repeats: true },
  format: { value: "ndjson|pretty", help: "how changes are printed [pretty on a terminal, else ndjson]" },
  header: { value: "'K: V'", help: "send a header; 'NAME:K: V' to one source only", repeats: true },
  "bearer-token-env": { value: "VAR", help: "send the token in VAR; NAME=VAR to one source only", repeats: true },
  items: { value: "PATH", help: "watch the items of the JSON list there; needs --key [$]", repeats: true },
  key: { value: "PATH", help: "what names an item, such as id or $.metadata.uid", repeats: true },
  next: { value: "PATH", help: "where the address of the next page is [in the Link header]", repeats: true },
  endpoint: { value: "URL", help: "server of s3://, gs:// or az://; NAME=URL for one source", repeats: true },
  region: { value: "R", help: "region of an s3:// bucket [AWS_REGION]; NAME=R for one source", repeats: true },
  "raw-prefix": { help: "s3://b/conf has conf2/a too, not only what is in conf/" },
  "min-age": { value: "D", help: "hold objects back that were written more recently than that" },
  "max-removed-ratio": { value: "0.3", help: "hold removals back if more than that part is gone [0.3]" },
  "no-removal-guard": { help: "hold no removals of objects back" },
  compact: { help: "remember less of each object: a third of the memory, and no previous" },
  acks: { value: "none", help: "for a tap:// server that wants no acknowledgements", of: ["watch"] },
  collections: { value: "a,b.*", help: "only records of these collections, of tap:// [all]", of: ["watch"] },
  "live-only": { help: "only what happens now, of tap://, no history", of: ["watch"] },
  timeout: {
    value: "2m",
    help: "bound of one poll: a document, or one page [2m]",
    of: ["watch", "once", "tap repos"]
  },
  "max-body": { value: "16MiB", help: "bound of one body [16MiB]" },
  exec: { value: "CMD", help: "run sh -c CMD for each change, its JSON on stdin; commit at exit 0" },
  "exec-timeout": { value: "5m", help: "end CMD after that time [never]" },
  entity: { value: "E", help: "what changed, of the one entry that is appended", of: ["log append"] },
  kind: { value: "K", help: "how it changed", of: ["log append"] },
  data: { value: "JSON", help: "what else is to be told of it; - reads it from stdin", of: ["log append"] },
  "older-than": { value: "7d", help: "remove only entries older than that", of: ["log prune"] },
  keep: { value: "N", help: "remove none of the N newest entries", of: ["log prune"] },
  "even-unread": { help: "remove also what registered consumers have not read", of: ["log prune"] },
  "log-level": { value: "LEVEL", help: "none, error, warning, info or debug, on stderr [info]", of: commands },
  help: { help: "show this", short: "h", of: commands },
  version: { help: "show the version", of: commands }
} as const satisfies Readonly<Record<string, Option>>

type Name = keyof typeof table
type Repeating = { [K in Name]: (typeof table)[K] extends { repeats: true } ? K : never }[Name]
type Switch = { [K in Name]: (typeof table)[K] extends { value: string } ? never : K }[Name]

/** What stands on the command line, unread. */
export type Given = { readonly [K in Exclude<Name, Repeating | Switch>]?: string } & {
  readonly [K in Repeating]: ReadonlyArray<string>
} & { readonly [K in Switch]: boolean } & { readonly positionals: ReadonlyArray<string> }

const entries: ReadonlyArray<readonly [string, Option]> = Object.entries(table)
const optionOf = (name: string): Option | undefined => entries.find(([known]) => known === name)?.[1]

/** Takes the command line apart; else a sentence that says what to write instead. Options stand anywhere. */
export const parse = (args: ReadonlyArray<string>): Either.Either<Given, string> => {
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      entries.map(([name, { value, short }]) => [
        name,
        { type: value === undefined ? "boolean" : "string", ...(short === undefined ? {} : { short }) }
      ])
    )
  })
  const given: Record<string, unknown> = Object.fromEntries(
    entries.flatMap(([name, { repeats, value }]): ReadonlyArray<readonly [string, unknown]> => {
      if (repeats === true) return [[name, []]]
      return value === undefined ? [[name, false]] : []
    })
  )
  const positionals: Array<string> = []
  for (const token of tokens) {
    if (token.kind === "positional") positionals.push(token.value)
    if (token.kind !== "option") continue
    const { name, rawName, value, inlineValue } = token
    const option = optionOf(name)
    if (option === undefined) return Either.left(unknown(name, rawName))
    const before = given[name]
    if (option.value === undefined) {
      if (value !== undefined) return Either.left(`${rawName} takes no value; write ${rawName} alone`)
      given[name] = true
    } else if (value === undefined || (inlineValue === false && value.startsWith("--"))) {
      return Either.left(`${rawName} needs a value, such as ${rawName} ${option.value}`)
    } else if (Array.isArray(before)) {
      before.push(value)
    } else if (before !== undefined) {
      return Either.left(`${rawName} is given twice; keep one of them`)
    } else {
      given[name] = value
    }
  }
  return Either.right({ ...given, positionals } as unknown as Given)
}

/** Refuses options that are for another command. */
export const onlyOf = (command: Command, given: Given): Either.Either<void, string> => {
  const values: Readonly<Record<string, unknown>> = given
  const isGiven = (name: string): boolean => {
    const value = values[name]
    return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false
  }
  const lost = entries.find(([name, { of = ["watch", "once"] }]) => isGiven(name) && !of.includes(command))
  if (lost === undefined) return Either.void
  const [name, { of = ["watch", "once"] }] = lost
  return Either.left(`--${name} is for periscope ${of.join(" and periscope ")}; leave it out`)
}

const unknown = (name: string, rawName: string): string => {
  const near = entries.find(([known]) => isNear(known, name))?.[0]
  return near === undefined
    ? `the option ${rawName} is unknown; periscope --help lists them all`
    : `the option ${rawName} is unknown; did you mean --${near}?`
}

/** Whether one is the other with one character more, less or replaced, or its beginning. */
const isNear = (known: string, name: string): boolean => {
  if (name.length >= 3 && known.startsWith(name)) return true
  if (Math.abs(known.length - name.length) > 1 || name.length < 3) return false
  let start = 0
  while (start < name.length && known[start] === name[start]) start++
  let end = 0
  while (end < name.length - start && known.at(-1 - end) === name.at(-1 - end)) end++
  return Math.max(known.length, name.length) - start - end <= 1
}

/** The help. */
export const help = (): string => {
  const left = entries.map(([name, { value, short }]) =>
    `${short === undefined ? "" : `-${short}, `}--${name} ${value ?? ""}`.trimEnd()
  )
  const columns = Math.max(...left.map((text) => text.length))
  const lines = entries.map(([, { help, of, repeats }], index) => {
    const note = repeats === true ? " (repeats)" : of?.length === 1 ? ` (${of[0]})` : ""
    return `  ${left[index]!.padEnd(columns)}  ${help}${note}`
  })
  return `periscope: see what changes outside

  periscope watch <source>...   follow for ever: one line per change on stdout, all else on stderr
  periscope once  <source>...   one complete observation of each, committed; then exit
  periscope log append <log>    write entries: --entity E --kind K [--data JSON], or on stdin one
                                {"entity":…,"kind":…,"data":…} a line, all of them or none
  periscope log head   <log>    the number of its newest entry
  periscope log prune  <log>    remove old entries that all registered consumers have read
  periscope tap repos add|remove|info|resolve <server> <did>...   or one DID a line on stdin
  periscope tap repos stats <server>
  periscope                     a demonstration on a server of its own

A source is an address, or NAME=<address>:
  https://example.com/a.json                     a document, or with --key the items of a list
  s3://bucket/prefix  gs://...  az://...         the objects of a bucket or container
  davs://example.com/dir  ./dir  file:///dir     the files in a folder, on a server or here
  sqlite:path.db?table=T                         the entries of a change log, each an Added, in a file
  postgres://user@host/database?table=T          or on a server; its password also in PGPASSWORD
  tap://admin:password@host:2480                 the events of a Tap server of the AT Protocol, each an
  taps://...                                     Added; its password also in TAP_ADMIN_PASSWORD
  wss://example.com/events  ws://...             the frames of a WebSocket, each an Added, once at most
Credentials are those of each cloud's own tools, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,
GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_CONNECTION_STRING.

Where a listing misses over 30 % of the objects, none is removed until three in a row miss them. To let the
removals pass now: kill -USR1 PID for one that runs, or --approve NAME with --state DIR at the next start.

A table of your own can be a change log: ?seq=, entity=, kind=, data=, at= (and xid= in PostgreSQL) say what
its columns are called; without one for data the whole row is the data. kinds=a,b takes some kinds only;
sslmode=require, verify-ca or verify-full encrypts. A table where entries could be missed is refused, unless
you vouch for it: assume=never-reused (SQLite: nobody deletes the newest rows), assume=ordered (PostgreSQL:
rows are committed in the order of seq). With assume=dense a gap in seq means that entries are gone.

A PATH is JSONPath (RFC 9535), whose $. may be left out; NAME=PATH is for one source.

${lines.join("\n")}

Exit codes: 0 done or stopped, 1 a source failed for good or its state cannot be used, 2 wrong arguments.

  periscope watch config=https://example.com/config.json --interval 10s
  periscope watch https://example.com/a.json --state ./state --exec 'jq -r .value.json.version >> versions'
  periscope watch docs=s3://my-bucket/docs ./local --state ./state --interval 1m
  periscope watch https://api.github.com/repos/nodejs/node/releases --key id --interval 5m
  periscope watch 'sqlite:app.db?table=changes' --state ./state --interval 30s
  periscope watch tap://localhost:2480 --collections app.bsky.feed.post --exec ./index.sh
  periscope log append 'sqlite:app.db?table=changes' --entity order-7 --kind paid --data '{"cents":950}'
`
}
