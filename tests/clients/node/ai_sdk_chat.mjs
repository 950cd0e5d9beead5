// A chat of the AI SDK without a page: ai_sdk_chat.mjs PACKAGE API SCENARIO.
//
// PACKAGE is `ai`, `ai-6` or `ai-6-first`. SCENARIO is JSON: {id, messages, body, transport, actions}, where each action
// is a list of its name and arguments. Prints the chat after each action, then what else was seen of it.
import { setTimeout as sleep } from 'node:timers/promises'

const [packageName, api, scenario] = process.argv.slice(2)
const ai = await import(packageName)
const { id: firstId, messages = [], body, transport = 'messages', actions } = JSON.parse(scenario)

const seen = { requests: [], toolCalls: [], data: [], finishes: [] }

async function countedFetch(url, options) {
  const response = await fetch(url, options)
  seen.requests.push({ method: options.method, path: new URL(url).pathname, status: response.status })
  return response
}

class State {
  status = 'ready'
  error = undefined
  messages = []
  pushMessage = (message) => { this.messages = [...this.messages, message] }
  popMessage = () => { this.messages = this.messages.slice(0, -1) }
  replaceMessage = (index, message) => {
    this.messages = [...this.messages.slice(0, index), this.snapshot(message), ...this.messages.slice(index + 1)]
  }
  snapshot = (thing) => structuredClone(thing)
}

class Chat extends ai.AbstractChat {
  constructor(init) {
    const state = new State()
    state.messages = init.messages
    super({ ...init, state })
  }
}

const Transport = { messages: ai.DefaultChatTransport, text: ai.TextStreamChatTransport }[transport]

function open(id, history) {
  const chat = new Chat({
    id,
    messages: history,
    transport: new Transport({ api, body, fetch: countedFetch }),
    sendAutomaticallyWhen: (options) =>
      ai.lastAssistantMessageIsCompleteWithToolCalls(options) ||
      ai.lastAssistantMessageIsCompleteWithApprovalResponses(options),
    onToolCall: ({ toolCall }) => {
      seen.toolCalls.push(toolCall)
      if (toolCall.dynamic) return // not one of ours; the documentation begins every handler like this
      chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { seen: toolCall.input } })
    },
    onData: (part) => seen.data.push(part),
    onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
      seen.finishes.push({ isAbort, isDisconnect, isError, finishReason }),
  })
  return chat
}

let chat = open(firstId, messages)
const text = () => (chat.lastMessage?.parts ?? []).filter((part) => part.type === 'text').map((part) => part.text).join('')

async function until(isTrue) {
  while (!isTrue()) await sleep(5)
}

// Nothing is under way, and nothing that sends by itself is about to be.
async function idle() {
  let quiet = 0
  while (quiet < 20) {
    await sleep(5)
    quiet = chat.status === 'ready' || chat.status === 'error' ? quiet + 1 : 0
  }
}

const perform = {
  send: (said) => chat.sendMessage({ text: said }),
  edit: (messageId, said) => chat.sendMessage({ text: said, messageId }),
  answer: (answers) => chat.sendMessage(undefined, { body: { answers } }),
  // Sends, and goes on once the answer so far holds this.
  begin: async (said, marker) => {
    chat.sendMessage({ text: said })
    await until(() => chat.lastMessage?.role === 'assistant' && text().includes(marker))
  },
  regenerate: () => chat.regenerate(),
  resume: () => chat.resumeStream(),
  beginResume: async (marker) => {
    chat.resumeStream()
    await until(() => text().includes(marker))
  },
  stop: () => chat.stop(),
  // Opens a chat on another page, which knows the first messages of this one.
  open: (id, kept = 0) => { chat = open(id, chat.messages.slice(0, kept)) },
  reload: (kept) => { chat = open(chat.id, chat.messages.slice(0, kept)) },
  approve: (approved, reason) => {
    const part = chat.lastMessage.parts.find((one) => one.state === 'approval-requested')
    return chat.addToolApprovalResponse({ id: part.approval.id, approved, reason })
  },
  call: async (method, path) => { await countedFetch(api + path, { method }) },
  complete: (streamProtocol, prompt) =>
    ai.callCompletionApi({
      api,
      prompt,
      body: {},
      headers: {},
      streamProtocol,
      setCompletion: (completion) => { seen.completion = completion },
      setLoading: () => {},
      setError: (error) => { seen.completionError = error?.message },
      setAbortController: () => {},
      fetch: countedFetch,
    }),
}

for (const [name, ...args] of actions) {
  await perform[name](...args)
  if (!name.startsWith('begin')) await idle()
  const { status, error, messages: shown } = chat
  console.log(JSON.stringify({ action: name, status, error: error?.message, messages: shown }))
}
console.log(JSON.stringify(seen))
process.exit(0)
