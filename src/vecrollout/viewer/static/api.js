// Requests to the server that sent this page. A problem is shown above the page until something works again.

const problem = document.getElementById("problem");

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return complain("The viewer does not answer. Start it again with: vecrollout view");
  }
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) return complain(answer.error ?? `The viewer answered ${response.status}.`);
  problem.hidden = true;
  return answer;
}

export function flag(number, wanted) {
  return ask(`episodes/${number}/flag`, { method: "POST", body: JSON.stringify(wanted) });
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = false;
  throw new Error(text);
}

// Views stop where a request failed; the reader has been told.
window.addEventListener("unhandledrejection", (event) => {
  if (!problem.hidden && event.reason?.message === problem.textContent) event.preventDefault();
  if (event.reason?.name === "AbortError") event.preventDefault();
});
