import tseslint from "typescript-eslint"
import house from "./house.js"

/** Files of `src` that may touch the host: its clock, timers, random numbers, console and process. */
const mayTouchTheHost = ["src/cli/**", "src/testing/**"]

const instead = (what) => `Use ${what}, so that a test rules it`
const clock = instead("Clock from effect/Clock")
const sleep = instead("Effect.sleep or a Schedule")
const random = instead("Random from effect/Random")
const log = instead("Effect.log")
const config = instead("Config from effect/Config")
const exit = "Fail with a typed error; only the command line ends the process"

const hostGlobals = Object.entries({
  setTimeout: sleep,
  setInterval: sleep,
  setImmediate: sleep,
  queueMicrotask: sleep,
  performance: clock,
  console: log
})

const typedCalls = "Effect|Layer|Stream|Schedule|Sink|Channel|Function"

const inSource = [
  [":function[async=true]", "Return an Effect instead of an async function"],
  ["AwaitExpression", "Yield an Effect instead of awaiting a promise"],
  ["ForOfStatement[await=true]", "Run a Stream instead of for await"],
  ["TryStatement", "Use Effect.try, Either.try or Effect.acquireUseRelease instead of try"],
  [
    `ExportNamedDeclaration > VariableDeclaration > VariableDeclarator:not([id.typeAnnotation]) > CallExpression.init:matches([callee.object.name=/^(${typedCalls})$/], [callee.name=/^(dual|pipe)$/], [callee.property.name='pipe'][callee.object.object.name=/^(${typedCalls})$/])`,
    "Write the type of this export"
  ]
].map(([selector, message]) => ({ selector, message }))

const onHost = [
  { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: clock },
  { selector: "CallExpression[callee.name='Date']", message: clock }
]

const barrels = {
  regex: "^(effect|@effect/[^/]+)$",
  message:
    'Import the module itself, like `import * as Effect from "effect/Effect"`: the barrel doubles the start-up time'
}

const noBarrels = { "@typescript-eslint/no-restricted-imports": ["error", { patterns: [barrels] }] }

export default tseslint.config(
  { ignores: ["**/node_modules/**", "dist/**", ".generated/**", "coverage/**"] },
  {
    files: ["**/*.ts", "**/*.js"],
    extends: [tseslint.configs.recommended],
    linterOptions: { noInlineConfig: true, reportUnusedDisableDirectives: "error" },
    rules: {
      eqeqeq: "error",
      "no-constant-condition": ["error", { checkLoops: false }],
      "no-debugger": "error",
      "no-duplicate-imports": ["error", { allowSeparateTypeImports: true }],
      "no-self-compare": "error",
      "no-unreachable": "error",
      "object-shorthand": "error",
      // A data-first and data-last function looks at `arguments`.
      "prefer-rest-params": "off",
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "separate-type-imports" }],
      "@typescript-eslint/no-empty-object-type": "off",
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-namespace": "off",
      "@typescript-eslint/no-unused-vars": [
        "error",
        {
          argsIgnorePattern: "^_",
          varsIgnorePattern: "^_",
          destructuredArrayIgnorePattern: "^_",
          ignoreRestSiblings: true
        }
      ]
    }
  },
  {
    files: ["src/**/*.ts"],
    plugins: { house },
    rules: {
      ...noBarrels,
      "house/imports": "error",
      "house/no-cycles": "error",
      "max-lines": ["error", { max: 450, skipBlankLines: true, skipComments: true }],
      "no-restricted-syntax": ["error", ...inSource],
      "@typescript-eslint/explicit-module-boundary-types": "error"
    }
  },
  {
    files: ["src/**/*.ts"],
    ignores: mayTouchTheHost,
    rules: {
      "no-restricted-globals": ["error", ...hostGlobals.map(([name, message]) => ({ name, message }))],
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", message: clock },
        { object: "Math", property: "random", message: random },
        { object: "process", property: "env", message: config },
        { object: "process", property: "exit", message: exit },
        { object: "process", property: "hrtime", message: clock },
        { object: "process", property: "nextTick", message: sleep },
        ...hostGlobals.map(([property, message]) => ({ object: "globalThis", property, message }))
      ],
      "no-restricted-syntax": ["error", ...inSource, ...onHost],
      "@typescript-eslint/no-restricted-imports": [
        "error",
        {
          patterns: [
            barrels,
            { regex: "^(node:)?(timers|process|perf_hooks|console)(/|$)", message: instead("an Effect service") }
          ]
        }
      ]
    }
  },
  {
    // what a source stores is known to itself alone: the engine carries it as a type that nobody can name
    files: ["src/core/definition.ts"],
    rules: { "@typescript-eslint/no-explicit-any": "off" }
  },
  {
    files: ["src/**/index.ts"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "Program > :not(ExportAllDeclaration[exported])",
          message: 'An index holds only `export * as X from "./X.js"`'
        }
      ]
    }
  }
)
