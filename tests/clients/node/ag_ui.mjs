// Drives an HttpAgent: ag_ui.mjs PACKAGE URL PLAN. The plan is a JSON list of acts, carried out in order by one agent:
//   {"act": "new", "config": {...}}         forget the agent and make another one
//   {"act": "say", "message": {...}}        add a message
//   {"act": "state", "state": ...}          set the shared state
//   {"act": "run" | "connect", "parameters": {...}, "url": "...", "answer": ..., "abortAfter": n, "post": "..."}
// A run or connect prints what came of it. `answer`: to all pending interrupts; `abortAfter`: abort after so many pieces
// of text; `post`: POST there instead.
const [name, url, plan] = process.argv.slice(2)
const { HttpAgent } = await import(name)

class Agent extends HttpAgent {
  // AG-UI leaves it to its users where a thread is replayed.
  connect(input) {
    const other = this.clone()
    other.url = `${this.url}/connect`
    other.abortController = this.abortController = new AbortController() // an aborted one stays aborted
    return other.run(input)
  }
}

let warnings = []
console.warn = (...words) => warnings.push(words.join(' '))
console.error = () => {}

let agent = new Agent({ url })
for (const step of JSON.parse(plan)) {
  if (step.act === 'new') agent = new Agent({ url, ...step.config })
  else if (step.act === 'say') agent.messages.push(step.message)
  else if (step.act === 'state') agent.setState(step.state)
  else console.log(JSON.stringify(await perform(step)))
}

async function perform(step) {
  agent.url = step.url ?? url
  const seen = { events: [], errors: [] }
  let pieces = 0
  const subscriber = {
    onEvent: async ({ event }) => {
      seen.events.push(event)
      if (event.type !== 'TEXT_MESSAGE_CONTENT' || ++pieces !== step.abortAfter) return
      if (step.post) await fetch(step.post, { method: 'POST' })
      else agent.abortRun()
    },
    onRunErrorEvent: ({ event }) => void seen.errors.push({ code: event.code, message: event.message }),
    onRunFinishedEvent: ({ outcome, pendingToolCallIds }) => Object.assign(seen, { outcome, pendingToolCallIds }),
  }
  const parameters = { ...step.parameters }
  if (step.answer) {
    const payload = step.answer
    parameters.resume = agent.pendingInterrupts.map(({ id }) => ({ interruptId: id, status: 'resolved', payload }))
  }
  try {
    const perform = step.act === 'run' ? agent.runAgent : agent.connectAgent
    const { result, newMessages } = await perform.call(agent, parameters, subscriber)
    Object.assign(seen, { result, newMessages })
  } catch (error) {
    seen.failure = { message: error.message, status: error.status, payload: error.payload }
  }
  const { messages, state, pendingInterrupts, threadId } = agent
  const all = { ...seen, messages, state, pendingInterrupts, threadId, warnings }
  warnings = []
  return all
}
