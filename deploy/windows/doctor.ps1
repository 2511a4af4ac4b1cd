# Mails what the doctor found when something fails; with -Always, also when all is well. Copy it to config\local, which
# upgrades do not touch, and change the four lines below. The task of doctor.xml runs the copy.
param([switch] $Always)

$Mail = @{
    To         = 'you@shop.example'
    From       = 'lnpay@shop.example'
    SmtpServer = 'mail.shop.example'
    Subject    = 'LNPay doctor'
}

Set-Location (Join-Path $PSScriptRoot '..\..')
$Report = & .venv\Scripts\python.exe main.py doctor 2>&1 | Out-String
$Code = $LASTEXITCODE
if ($Always -or $Code -ne 0) {
    Send-MailMessage @Mail -Body $Report -ErrorAction Stop
}
exit $Code
