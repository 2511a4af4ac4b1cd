// Hands the new key over to the shop without another click.
document.getElementById("handover").submit();
