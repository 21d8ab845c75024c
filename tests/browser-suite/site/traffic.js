const asked = [fetch('/echo.json?page=1'), fetch('/status/404'), fetch('/status/503'), fetch('/posted', {method: 'POST', body: 'order=1234'})];
Promise.all(asked).then(answers => { document.querySelector('[data-testid=done]').textContent = answers.length + ' answers'; });
