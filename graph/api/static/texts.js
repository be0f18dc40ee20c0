// Every text of the page, in both languages.

const KOREAN = {
  language: "English",
  languageLabel: "Switch to English",
  theme: { auto: "테마: 자동", light: "테마: 밝게", dark: "테마: 어둡게" },
  skip: "질문 입력으로 건너뛰기",
  sessionTotal: "이 대화의 비용",
  sessionDetail: (answers, tokens) => `답변 ${answers}개 · ${tokens} 토큰`,
  newSession: "새 대화",
  welcomeTitle: "무엇을 버리시나요?",
  welcomeText:
    "분리배출과 환경에 대해 물어보세요. 답이 만들어지는 과정과, 그 답에 든 비용을 단계마다 바로 보여 드립니다.",
  examples: "질문 예시",
  turns: "대화",
  message: "질문",
  placeholder: "질문을 입력하세요",
  attach: "사진 첨부",
  removePicture: "사진 빼기",
  pictureAlt: "첨부한 사진",
  answerImageAlt: "답으로 만든 그림",
  send: "보내기",
  stop: "중지",
  keys: "Enter 보내기 · Shift+Enter 줄바꿈 · Esc 중지 · 표에서는 화살표 키",
  you: "나",
  answer: "답",
  sending: "보내는 중…",
  queued: "대기 중…",
  running: (step) => `${step} 중…`,
  thinking: "준비 중…",
  lostConnection: "연결이 끊겼습니다. 다시 연결하는 중입니다. 답은 서버에서 계속 만들어집니다.",
  costSoFar: "지금까지",
  cost: "이 답의 비용",
  atLeast: "최소",
  cents: (cents) => `약 ${cents}센트`,
  perDollar: (count) => `1달러로 이런 답 ${count}개`,
  usage: (input, output, seconds) => `모델이 ${input} 토큰을 읽고 ${output} 토큰을 썼습니다. ${seconds}초 걸렸습니다.`,
  mostly: (step, percent) => `비용의 ${percent}%는 「${step}」 단계에 들었습니다.`,
  unpriced: (count) => `가격을 모르는 모델 호출 ${count}건은 빠져 있습니다.`,
  noModel: "이 답에는 유료 모델을 쓰지 않았습니다.",
  timeline: "답이 만들어진 과정",
  whatIsToken: "토큰이란 낱말의 조각입니다. 모델 요금은 읽고 쓴 토큰 수로 정해집니다.",
  legend: { node: "단계", model: "모델 호출", tool: "도구·검색", wait: "대기" },
  columns: { step: "단계", time: "시간", seconds: "초", tokens: "토큰", usd: "비용" },
  request: "답 전체",
  waited: "차례 기다림",
  retry: { retry: "재시도", fallback: "대체 모델", sdk: "재시도" },
  outcome: { error: "실패", cancelled: "중단", interrupted: "멈춤", lost: "끝나지 않음" },
  tokensTitle: (input, output) => `입력 ${input} · 출력 ${output}`,
  estimated: "추정",
  unknownUsd: "가격 모름",
  freeUsd: "무료",
  expand: (step) => `${step}: 호출 펼치기`,
  ids: (job, trace) => `작업 ${job}${trace ? ` · 추적 ${trace}` : ""}`,
  cancelledTitle: "중지했습니다.",
  failedTitle: "답을 만들지 못했습니다.",
  expiredTitle: "이 답은 서버에 더 이상 없습니다.",
  costKept: (usd) => `여기까지 든 비용: ${usd}`,
  problem: { 401: "접근 토큰이 필요합니다.", 413: "사진이 너무 큽니다.", 429: "질문이 너무 많습니다. 잠시 뒤에 다시 물어보세요.", 503: "서버가 지금 질문을 받을 수 없습니다. 잠시 뒤에 다시 물어보세요." },
  offline: "서버에 연결할 수 없습니다.",
  askAgain: "다시 묻기",
  feedback: "이 답이 도움이 되었나요?",
  good: "도움이 됨",
  bad: "도움이 안 됨",
  comment: "의견 (선택)",
  sendFeedback: "의견 보내기",
  feedbackSent: (stores) => `고맙습니다. 저장된 곳: ${stores}.`,
  feedbackNowhere: "받았지만, 이 서버에는 저장할 곳이 설정되어 있지 않습니다.",
  feedbackFailed: "의견을 보내지 못했습니다. 다시 눌러 주세요.",
  stores: { langsmith: "LangSmith", ledger: "비용 원장" },
  tokenTitle: "접근 토큰",
  tokenText: "이 서버는 토큰을 요구합니다. 토큰은 이 탭에만 보관됩니다.",
  tokenUse: "사용",
  nodes: {
    vision: "사진 보기", intent: "의도 파악", router: "길 정하기", waste_rag: "지침에서 찾기", feedback: "찾은 답 채점",
    character: "캐릭터 뽑기", location: "장소 찾기", web_search: "웹 검색", bulk_waste: "대형 폐기물 수수료",
    recyclable_price: "자원 시세", weather: "날씨", collection_point: "수거처 찾기", image_generation: "그림 그리기",
    general: "지식으로 답하기", aggregator: "결과 모으기", answer: "답 쓰기", summarize: "대화 요약",
  },
};

const ENGLISH = {
  language: "한국어",
  languageLabel: "한국어로 바꾸기",
  theme: { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" },
  skip: "Skip to the question",
  sessionTotal: "This conversation cost",
  sessionDetail: (answers, tokens) => `${answers} ${answers === 1 ? "answer" : "answers"} · ${tokens} tokens`,
  newSession: "New chat",
  welcomeTitle: "What do you want to throw away?",
  welcomeText:
    "Ask about recycling and the environment, best in Korean. You see how the answer is made and, step by step, what it costs.",
  examples: "Example questions",
  turns: "Conversation",
  message: "Question",
  placeholder: "Ask a question",
  attach: "Attach a photo",
  removePicture: "Remove photo",
  pictureAlt: "Attached photo",
  answerImageAlt: "Picture made for the answer",
  send: "Send",
  stop: "Stop",
  keys: "Enter sends · Shift+Enter new line · Esc stops · arrow keys move in the table",
  you: "You",
  answer: "Answer",
  sending: "Sending…",
  queued: "Waiting for a worker…",
  running: (step) => `${step}…`,
  thinking: "Getting ready…",
  lostConnection: "Connection lost. Reconnecting; the server goes on with the answer meanwhile.",
  costSoFar: "So far",
  cost: "This answer cost",
  atLeast: "at least",
  cents: (cents) => `about ${cents} cents`,
  perDollar: (count) => `${count} such answers for a dollar`,
  usage: (input, output, seconds) => `The models read ${input} tokens, wrote ${output}, and took ${seconds} seconds.`,
  mostly: (step, percent) => `${percent}% of the cost is the step “${step}”.`,
  unpriced: (count) => `${count} model ${count === 1 ? "call has" : "calls have"} no known price and ${count === 1 ? "is" : "are"} left out.`,
  noModel: "No paid model was used for this answer.",
  timeline: "How the answer was made",
  whatIsToken: "A token is a piece of a word. Models are paid by the tokens that they read and write.",
  legend: { node: "Step", model: "Model call", tool: "Tool or search", wait: "Waiting" },
  columns: { step: "Step", time: "Time", seconds: "Seconds", tokens: "Tokens", usd: "Cost" },
  request: "Whole answer",
  waited: "Waited for a worker",
  retry: { retry: "retry", fallback: "other model", sdk: "retry" },
  outcome: { error: "failed", cancelled: "cancelled", interrupted: "paused", lost: "not finished" },
  tokensTitle: (input, output) => `${input} read, ${output} written`,
  estimated: "estimated",
  unknownUsd: "no price",
  freeUsd: "free",
  expand: (step) => `${step}: show its calls`,
  ids: (job, trace) => `Job ${job}${trace ? ` · trace ${trace}` : ""}`,
  cancelledTitle: "Stopped.",
  failedTitle: "The answer failed.",
  expiredTitle: "The server no longer has this answer.",
  costKept: (usd) => `It cost ${usd} up to here.`,
  problem: { 401: "An access token is needed.", 413: "The photo is too large.", 429: "Too many questions. Ask again in a moment.", 503: "The server cannot take the question now. Ask again in a moment." },
  offline: "The server cannot be reached.",
  askAgain: "Ask again",
  feedback: "Was this answer helpful?",
  good: "Helpful",
  bad: "Not helpful",
  comment: "Comment (optional)",
  sendFeedback: "Send feedback",
  feedbackSent: (stores) => `Thank you. Saved in: ${stores}.`,
  feedbackNowhere: "Received, but this server has no place set up to keep it.",
  feedbackFailed: "The feedback was not sent. Please press again.",
  stores: { langsmith: "LangSmith", ledger: "cost ledger" },
  tokenTitle: "Access token",
  tokenText: "This server asks for a token. It is kept in this tab only.",
  tokenUse: "Use it",
  nodes: {
    vision: "Look at the photo", intent: "Understand the question", router: "Choose the steps", waste_rag: "Search the rules",
    feedback: "Grade what was found", character: "Draw a character", location: "Find places", web_search: "Search the web",
    bulk_waste: "Bulky waste fees", recyclable_price: "Material prices", weather: "Weather",
    collection_point: "Find drop-off points", image_generation: "Draw a picture", general: "Answer from knowledge",
    aggregator: "Collect the results", answer: "Write the answer", summarize: "Summarize the conversation",
  },
};

export const EXAMPLES = [
  { ko: "페트병 어떻게 버려?", en: "How do I throw away a PET bottle?" },
  { ko: "강남역 근처 페트병 분리수거함 어디있어?", en: "Where is a PET bottle bin near Gangnam station?" },
  { ko: "요즘 폐지랑 고철 시세 얼마야?", en: "What do waste paper and scrap iron pay now?" },
  { ko: "미세 플라스틱이 왜 문제야?", en: "Why are microplastics a problem?" },
  { ko: "분리배출하는 고양이 그림 그려줘", en: "Draw a cat that sorts its waste" },
];

const LANGUAGES = { ko: KOREAN, en: ENGLISH };
let current = stored() ?? (navigator.language.startsWith("ko") ? "ko" : "en");

function stored() {
  const language = localStorage.getItem("eco2.language");
  return language in LANGUAGES ? language : null;
}

/** The texts of the chosen language. */
export const texts = () => LANGUAGES[current];

export const language = () => current;

export function switchLanguage() {
  current = current === "ko" ? "en" : "ko";
  localStorage.setItem("eco2.language", current);
}

export const nodeName = (node) => texts().nodes[node] ?? node;

export const number = (count) => count.toLocaleString("en-US");

export const seconds = (value) => value.toFixed(value < 10 ? 1 : 0);
